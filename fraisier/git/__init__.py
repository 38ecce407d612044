"""Forges, one file each: verify a delivery, parse it to a `Push`. `repository.py` speaks git itself."""
