"""Figures of the surroundings: the host and the container."""
