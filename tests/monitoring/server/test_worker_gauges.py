"""A worker's connections, requests and generation, with a bound for requests in flight and without."""

import asyncio
from collections.abc import Iterator

import pytest

from app.monitoring.metrics import process
from app.monitoring.metrics.registry import registry
from app.monitoring.options import Options
from app.monitoring.server import limits, worker_gauges
from app.monitoring.server.admission import Admission, AdmissionLimits
from app.monitoring.server.server_state import ServerState

SLOT = 41


@pytest.fixture(autouse=True)
def _slot() -> Iterator[None]:
    before = process.worker_slot()
    process.set_worker_slot(SLOT)
    yield
    process.set_worker_slot(int(before))


def shown(name: str, **labels: str) -> float | None:
    return registry().get_sample_value(f"{registry().namespace}_{name}", labels or {"worker": str(SLOT)})


def figures() -> tuple[float | None, ...]:
    return tuple(shown(name) for name in ("connections_open", "requests_in_flight", "requests_queued"))


async def test_all_requests_that_run_are_in_flight_without_a_bound() -> None:
    state = ServerState()
    worker_gauges.expose(state, generation=3)
    assert (figures(), shown("worker_generation")) == ((0, 0, 0), 3)
    state.connections.update(range(3))  # type: ignore[arg-type]
    task = asyncio.create_task(asyncio.Event().wait())
    state.tasks.add(task)  # type: ignore[arg-type]
    worker_gauges.publish(state)
    assert figures() == (3, 1, 0)
    task.cancel()


async def test_requests_that_hold_a_slot_are_in_flight_with_a_bound() -> None:
    state = ServerState()
    bound = AdmissionLimits.of(Options(max_in_flight=3))
    assert bound is not None
    state.admission = Admission(bound, state.tasks, 1.0)
    worker_gauges.expose(state, generation=0)
    assert figures() == (0, 0, 0)
    state.admission.in_flight = 2
    worker_gauges.publish(state)
    assert figures() == (0, 2, 0)


async def test_each_reason_of_the_server_is_there_before_its_first_event() -> None:
    worker_gauges.expose(ServerState(), generation=0)
    for reason in ("queue_full", "queue_timeout"):
        assert shown("requests_shed_total", reason=reason) is not None
    refusals = {value.reason for value in vars(limits).values() if isinstance(value, limits.Refusal)}
    assert len(refusals) == 8
    for reason in (*refusals, "evicted", "response_unread"):
        assert shown("connections_rejected_total", reason=reason) is not None
