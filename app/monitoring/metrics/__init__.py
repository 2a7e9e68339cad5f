"""Metrics of one process: the registry that bounds them, and the ones that the package declares."""
