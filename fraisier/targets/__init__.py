"""What runs a release: one file per process manager."""
