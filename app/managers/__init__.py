"""Host and container metrics."""
