"""Observability for a FastAPI service on several processes; knows nothing of the service around it.

Import from the submodules. Nothing is imported here, because PROMETHEUS_MULTIPROC_DIR must be set first, and the
guardian of the embedded servers should not pay for the metrics library.
"""
