"""The logging pipeline: processors, levels, JSON and console renderers, and the non-blocking writer."""
