"""One file per verb, and the Protocols that the adapters fill (`ports/`)."""
