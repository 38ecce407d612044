"""HTTP: translate in, call one verb, translate out."""
