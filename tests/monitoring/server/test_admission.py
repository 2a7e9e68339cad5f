"""The limits of admission from the options, and the response to a request that is shed."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.monitoring import Options
from app.monitoring.overload import release_slot
from app.monitoring.requests.slot import SLOT
from app.monitoring.server.admission import Admission, AdmissionLimits
from app.monitoring.server.protocol import Protocol
from app.monitoring.server.rejection import Rejections, pause_after

DATE = [(b"date", b"Sat, 28 Nov 2026 18:00:00 GMT")]

QUEUE_SECONDS = 0.05


class Writer:
    """A transport that a test may close for writing, as the protocol does before it closes a connection."""

    def __init__(self) -> None:
        self.written, self.closed_for_writing, self.aborted = asyncio.Event(), False, False

    def write(self, _data: bytes) -> None:
        if self.closed_for_writing:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.written.set()

    def abort(self) -> None:
        self.aborted = True


class Connection:
    """A client's connection with one request, which runs until `ended` is set."""

    has_body = False

    def __init__(self, admission: Admission) -> None:
        self.transport, self.rejected = Writer(), 0
        self.config = SimpleNamespace(reset_contextvars=False)
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.scope: dict[str, Any] = {"method": "GET", "path": "/", "root_path": ""}
        admission.admit(cast("Protocol", self), self, None)

    async def run_asgi(self, _app: None) -> None:
        self.started.set()
        await self.ended.wait()

    def is_left(self) -> bool:
        return False

    def reject(self, _cycle: object, rejections: Rejections) -> None:
        self.transport.write(rejections.response(DATE, head=False, keep_alive=True))


@pytest.fixture
async def admission() -> Admission:
    """Return the admission of a worker with one slot and a short deadline for its queue."""
    return Admission(AdmissionLimits(1, 9, QUEUE_SECONDS, ()), set(), QUEUE_SECONDS)


def test_without_an_option_there_is_no_bound() -> None:
    assert AdmissionLimits.of(Options()) is None


def test_limits_are_those_of_the_options() -> None:
    options = Options(max_in_flight=3, max_queued_requests=0, queue_timeout=0.25, overload_exempt_paths=("/live/",))
    assert AdmissionLimits.of(options) == AdmissionLimits(3, 0, 0.25, ("/live",))


@pytest.mark.parametrize(("text", "paths"), [("/live, /scrape/", ("/live", "/scrape")), ("none", ())])
def test_exempt_paths_are_read_from_the_environment(text: str, paths: tuple[str, ...]) -> None:
    assert Options.read({}, {"OVERLOAD_EXEMPT_PATHS": text}).overload_exempt_paths == paths


def test_the_head_of_a_rejection_has_the_length_of_the_body_it_lacks() -> None:
    rejections = Rejections()
    head = rejections.response(DATE, head=True, keep_alive=True)
    whole = rejections.response(DATE, head=False, keep_alive=True)
    assert head.endswith(b"\r\n\r\n")
    body = whole.partition(b"\r\n\r\n")[2]
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head
    assert b"\r\ncontent-length: %d\r\n" % len(body) in whole


def test_rejections_ask_for_several_delays_in_turn() -> None:
    rejections = Rejections()
    made = [rejections.response(DATE, head=False, keep_alive=True) for _ in range(6)]
    assert made[:3] == made[3:]
    assert [b"\r\nretry-after: %d\r\n" % (number + 1) in one for number, one in enumerate(made[:3])] == [True] * 3


def test_a_rejection_has_the_date_of_its_time() -> None:
    rejections = Rejections()
    later = [(b"date", b"Sat, 28 Nov 2026 18:00:01 GMT")]
    for headers in (DATE, later, DATE):
        for _ in range(3):
            made = rejections.response(headers, head=False, keep_alive=False)
            assert b"\r\ndate: " + headers[0][1] + b"\r\n" in made
            assert b"\r\nconnection: close\r\n" in made


@pytest.mark.parametrize(
    ("rejected", "lately", "pause"), [(1, 0, 0.0), (1, 100, 0.25), (2, 10, 0.05), (2, 100, 0.25), (1, 10_000, 1.4)]
)
def test_pauses_grow_with_the_rejections_of_the_worker(rejected: int, lately: int, pause: float) -> None:
    assert pause_after(rejected, lately) == pause


def test_pauses_grow_to_a_maximum() -> None:
    pauses = [pause_after(number) for number in range(1, 20)]
    assert pauses[:2] == [0.0, 0.05]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.4


def test_a_slot_need_not_be_there_to_be_released() -> None:
    release_slot({"type": "http"})


async def test_a_rejection_that_fails_does_not_keep_others_in_the_queue(admission: Admission) -> None:
    running, failing, other = (Connection(admission) for _ in range(3))
    failing.transport.closed_for_writing = True
    async with asyncio.timeout(30):
        await other.transport.written.wait()
    assert failing.transport.aborted
    assert not other.started.is_set()
    running.ended.set()
    await asyncio.gather(*admission.tasks)


async def test_a_rejection_that_fails_does_not_keep_the_next_request_from_its_slot(admission: Admission) -> None:
    running, failing = (Connection(admission) for _ in range(2))
    failing.transport.closed_for_writing = True
    loop = asyncio.get_running_loop()
    overdue = loop.time() + QUEUE_SECONDS
    while loop.time() <= overdue:  # the event loop's timer must not run
        pass
    other = Connection(admission)
    running.scope[SLOT].release()
    async with asyncio.timeout(30):
        await other.started.wait()
    assert failing.transport.aborted
    running.ended.set()
    other.ended.set()
    await asyncio.gather(*admission.tasks)


async def test_the_deadline_of_others_is_kept_if_a_request_cannot_be_shed(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, failing, other = (Connection(admission) for _ in range(3))
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", lambda _: None)
    failing.transport.closed_for_writing = True
    monkeypatch.setattr(failing.transport, "abort", None)
    async with asyncio.timeout(30):
        await other.transport.written.wait()
    running.ended.set()
    await asyncio.gather(*admission.tasks)
