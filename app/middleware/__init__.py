"""The layer that every request passes."""
