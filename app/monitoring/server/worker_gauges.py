"""Metrics of a worker of gunicorn: its connections, its requests, and the reload that it was started after."""

from ..metrics import process
from ..metrics.catalogue import catalogue
from . import limits
from .admission import SHED_REASONS
from .server_state import ServerState


def expose(state: ServerState, generation: int) -> None:
    """Expose all of them at the start. Reasons begin at 0, so that the first of each is an increase."""
    metrics = catalogue()
    metrics.worker_generation.labels(process.worker_slot()).set(generation)
    for reason in SHED_REASONS:
        metrics.requests_shed.labels(reason)
    for reason in limits.REASONS:
        metrics.connections_rejected.labels(reason)
    publish(state)


def publish(state: ServerState) -> None:
    """Set the gauges. Call it about once a second, and at the end."""
    metrics, worker = catalogue(), process.worker_slot()
    metrics.connections_open.labels(worker).set(len(state.connections))
    if state.admission is not None:
        state.admission.publish()
        return
    metrics.requests_in_flight.labels(worker).set(len(state.tasks))
    metrics.requests_queued.labels(worker).set(0)
