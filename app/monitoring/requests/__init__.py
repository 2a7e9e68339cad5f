"""The ASGI layer that observes each request."""
