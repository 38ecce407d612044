"""One file per kind of health check."""
