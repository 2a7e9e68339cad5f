"""The decisions of the master over any sequence of events, on workers without processes."""

import signal
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.monitoring.backoff import Backoff
from app.monitoring.server import arbiter
from app.monitoring.server.arbiter import MAX_BOOT_DELAY_SECONDS, MIN_BOOT_DELAY_SECONDS, RollingArbiter
from app.monitoring.server.shared_state import ServiceState, WorkerState

GRACEFUL_TIMEOUT = 25
EVENTS = ("ready", "wants successor", "leaves", "crash", "boot fails", "retired", "reload", "more", "fewer", "look")


class Worker:
    """A worker as the master sees it."""

    def __init__(self, pid: int, generation: int) -> None:
        self.pid = self.age = pid
        self.generation, self.aborted, self.state = generation, False, WorkerState()
        self.forked, self.reported = time.monotonic(), False


class Master(RollingArbiter):
    """A master whose workers are records; it checks the invariants at each step."""

    spawned = 0
    signals: list[tuple[int, int]]

    @classmethod
    def of(cls, workers: int, max_surge: int) -> "Master":
        master = object.__new__(cls)
        master.__dict__.update(
            WORKERS={},
            _num_workers=workers,
            generation=0,
            max_surge=max_surge,
            service=ServiceState(),
            cfg=SimpleNamespace(graceful_timeout=GRACEFUL_TIMEOUT, timeout=30, nworkers_changed=lambda *_: None),
            _retiring={},
            _reloading=False,
            _boots=Backoff(MIN_BOOT_DELAY_SECONDS, MAX_BOOT_DELAY_SECONDS),
            _next_boot=0.0,
            _last_ready=0,
            signals=[],
        )
        master.manage_workers()
        return master

    @property
    def serving(self) -> list[Worker]:
        """The workers that are ready and not told to stop."""
        return [one for one in self.WORKERS.values() if one.state.ready and not one.state.retiring]

    def spawn_worker(self) -> Worker:
        self.spawned += 1
        worker = self.WORKERS[self.spawned] = Worker(self.spawned, self.generation)
        kept = [one for one in self.WORKERS.values() if not one.state.retiring]
        assert len(kept) <= self.num_workers + self.max_surge
        return worker

    def kill_worker(self, pid: int, sig: int) -> None:
        self.signals.append((pid, sig))
        if sig == signal.SIGTERM and self.WORKERS[pid].state.ready:
            assert len(self.serving) >= self.num_workers

    def end(self, worker: Worker) -> None:
        del self.WORKERS[worker.pid]
        self.worker_exited(worker)

    def take(self, event: str, which: int) -> None:
        """Let something happen, to one of the workers that it may happen to."""
        groups = {
            "ready": [one for one in self.WORKERS.values() if not one.state.ready],
            "wants successor": self.serving,
            "leaves": self.serving,
            "crash": list(self.WORKERS.values()),
            "boot fails": [one for one in self.WORKERS.values() if not one.state.ready],
            "retired": [one for one in self.WORKERS.values() if one.state.retiring],
        }
        if groups.get(event):
            self._take_of(event, groups[event][which % len(groups[event])])
        elif event == "reload":
            self.generation += 1
        elif event == "more":
            self.num_workers += 1
        elif event == "fewer":
            self.num_workers = max(1, self.num_workers - 1)

    def _take_of(self, event: str, worker: Worker) -> None:
        if event == "ready":
            worker.state.set_ready()
            self.service.set_served()
        elif event == "wants successor":
            worker.state.request_successor()
        elif event == "leaves":
            worker.state.set_leaving()
        else:
            if event == "boot fails":
                worker.state.set_boot_failed()
            self.end(worker)

    def settle(self) -> None:
        """Let every worker become ready, and those that are told to stop end, until nothing changes."""
        for _ in range(200):
            before = set(self.WORKERS)
            self._next_boot = 0.0
            for worker in list(self.WORKERS.values()):
                if worker.state.retiring:
                    self.end(worker)
                elif not worker.state.wants_successor:
                    worker.state.set_ready()
                    self.service.set_served()
            self.manage_workers()
            if set(self.WORKERS) == before and not self._retiring:
                return
        pytest.fail(f"the workers never settle: {vars(self)}")


@settings(max_examples=300, deadline=None)
@given(
    workers=st.integers(1, 4),
    max_surge=st.integers(1, 3),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 20)), max_size=40),
)
def test_workers_are_replaced_without_a_time_of_too_few_and_settle(
    workers: int, max_surge: int, events: list[tuple[str, int]]
) -> None:
    master = Master.of(workers, max_surge)
    for event, which in events:
        master.take(event, which)
        if master.service.served:
            master.manage_workers()
    master.settle()
    assert len(master.serving) == len(master.WORKERS) == master.num_workers
    assert {worker.generation for worker in master.WORKERS.values()} == {master.generation}
    assert not any(worker.state.wants_successor for worker in master.WORKERS.values())
    assert len(master.signals) == len(set(master.signals))


@pytest.mark.parametrize(("max_surge", "most"), [(1, 1), (3, 3), (9, 4)])
def test_at_most_max_surge_successors_boot_at_a_time(max_surge: int, most: int) -> None:
    master = Master.of(4, max_surge)
    master.settle()
    master.generation += 1
    master.manage_workers()
    assert len(master.WORKERS) == 4 + most


def served(master: Master) -> dict[int, int]:
    """Return the generation of each worker that serves."""
    return {worker.pid: worker.generation for worker in master.serving}


def test_a_reload_whose_first_worker_cannot_boot_is_given_up() -> None:
    master = Master.of(2, 1)
    master.settle()
    before = set(master.WORKERS)
    master.generation += 1
    master.manage_workers()
    master.take("boot fails", 0)
    assert served(master) == dict.fromkeys(before, master.generation)
    master._next_boot = 0.0
    master.manage_workers()
    assert set(master.WORKERS) == before


def test_a_reload_whose_first_worker_is_killed_goes_on() -> None:
    master = Master.of(2, 1)
    master.settle()
    before = set(master.WORKERS)
    master.generation += 1
    master.manage_workers()
    (successor,) = set(master.WORKERS) - before
    master.end(master.WORKERS[successor])
    assert set(served(master).values()) == {master.generation - 1}
    master.settle()
    assert not set(master.WORKERS) & before


class Clock:
    """The clock of the master."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(arbiter, "time", clock)
    return clock


def reloading(workers: int, clock: Clock, max_surge: int = 1) -> Master:
    """Return a master whose workers serve, at the begin of a reload."""
    master = Master.of(workers, max_surge)
    for worker in master.WORKERS.values():
        worker.forked = clock.now
    master.settle()
    master.generation += 1
    master.manage_workers()
    return master


def test_each_worker_that_is_replaced_gets_one_signal(clock: Clock) -> None:
    master = reloading(3, clock)
    before = set(range(1, 4))
    for _ in range(3):
        master.take("ready", 0)
        for _ in range(2):
            master.manage_workers()
        master.take("retired", 0)
        master.manage_workers()
    assert sorted(master.signals) == [(pid, signal.SIGTERM) for pid in sorted(before)]
    assert not set(master.WORKERS) & before


def test_as_many_workers_retire_at_a_time_as_serve(clock: Clock) -> None:
    master = reloading(2, clock, max_surge=2)
    for _ in range(2):
        master.take("ready", 0)
        master.manage_workers()
    assert len(master._retiring) == 2
    master.generation += 1
    master.manage_workers()
    assert len(master.WORKERS) == 4
    master.take("retired", 0)
    master.manage_workers()
    assert len(master.WORKERS) == 5


def test_a_worker_that_outstays_its_time_is_killed(clock: Clock) -> None:
    master = reloading(1, clock)
    master.take("ready", 0)
    master.manage_workers()
    clock.now += GRACEFUL_TIMEOUT
    master.manage_workers()
    assert master.signals == [(1, signal.SIGTERM)]
    clock.now += 0.1
    master.manage_workers()
    assert master.signals == [(1, signal.SIGTERM), (1, signal.SIGKILL)]


def test_the_next_start_after_a_failed_one_is_delayed_until_a_worker_serves(clock: Clock) -> None:
    master = Master.of(2, 1)
    master.settle()
    master.take("crash", 0)
    master.manage_workers()
    assert len(master.WORKERS) == 2
    master.take("boot fails", 0)
    master.manage_workers()
    assert len(master.WORKERS) == 1
    clock.now += MIN_BOOT_DELAY_SECONDS
    master.manage_workers()
    assert len(master.WORKERS) == 2
    master.take("boot fails", 0)
    assert master._next_boot - clock.now == 2 * MIN_BOOT_DELAY_SECONDS
    clock.now = master._next_boot
    master.manage_workers()
    master.take("ready", 0)
    master.manage_workers()
    master.take("crash", 0)
    master.manage_workers()
    assert len(master.WORKERS) == 2


def test_a_worker_that_is_not_ready_in_time_is_logged_once(clock: Clock) -> None:
    master = reloading(1, clock)
    master.WORKERS[2].forked = clock.now
    clock.now += master.cfg.timeout
    with capture_logs() as lines:
        master.manage_workers()
        assert lines == []
        for _ in range(2):
            clock.now += 1
            master.manage_workers()
    assert lines == [{"event": "worker_not_ready", "log_level": "warning", "pid": 2, "seconds": 31.0}]


@pytest.mark.parametrize("event", ["ready", "leaves"])
def test_a_worker_that_serves_or_leaves_is_not_reported_as_late(clock: Clock, event: str) -> None:
    master = Master.of(1, 1)
    master.settle()
    (worker,) = master.WORKERS.values()
    worker.forked = clock.now
    master.take(event, 0)
    clock.now += 10 * master.cfg.timeout
    with capture_logs() as lines:
        master.manage_workers()
    assert lines == []
