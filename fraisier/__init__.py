"""Fraisier: a git push becomes a running release, or a clean return to the last good one."""

__version__ = "0.1.0"
