"""The keys of a request's scope that admission control (server/admission.py) sets."""

SLOT = "prefork.slot"
"""The request's slot among those in flight. `release()` counts the request no longer."""
WAITED = "prefork.waited"
"""Seconds that the request was queued."""
