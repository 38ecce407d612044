"""One file per kind of place where backups are kept."""
