"""Metrics of one process: the bounded registry and the metrics that the package declares."""
