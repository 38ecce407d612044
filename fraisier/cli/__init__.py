"""The `fraisier` command: one file per command; each parses, calls one verb, prints."""
