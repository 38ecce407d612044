"""Where commands run. The only place that starts a process."""
