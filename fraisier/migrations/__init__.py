"""One file per migration framework."""
