"""The BaliBlissed backend. Nothing is imported here: the metrics directory must be set before the metrics library."""

__version__ = "1.0.0"
