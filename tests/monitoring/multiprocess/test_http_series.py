"""A request's nine additions under one lock equal those through the library's values, in every state of the files."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import values as library
from prometheus_client.samples import Exemplar
from prometheus_client.values import MutexValue

from app.monitoring.metrics.http import HttpMetrics, _SharedSeries
from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.mapped_file import MappedFile, NoRoomError
from tests.middleware.applications import Records
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Samples, Scene, ended, forked, series

Asked = tuple[str, int, str, float, int, int]
REQUEST: Asked = ("GET", 200, "/x", 0.25, 3, 70)
TOTAL = series("http_requests_total", method="GET", status="200", handler="/x")
asked = st.tuples(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from([200, 404, 500]),
    st.sampled_from(["/x", "/y/{z}", "none"]),
    st.floats(0, 100),
    st.integers(0, 2**40),
    st.sampled_from([0, 0, 73, 2**30]),
)


def http(found: Samples) -> Samples:
    """Return the HTTP samples without creation times, which only the single process shows."""
    return {key: value for key, value in found.items() if key[0].startswith("http_") and "_created" not in key[0]}


def expected(requests: list[Asked]) -> Samples:
    """Return the samples of the library's values after the same requests."""
    registry = CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "ValueClass", MutexValue)
        recorder = HttpMetrics(Records(registry=registry).registry)
        for request in requests:
            recorder.record(*request)
    return {
        series(sample.name, **sample.labels): sample.value
        for family in registry.collect()
        for sample in family.samples
        if "_created" not in sample.name
    }


@given(st.lists(asked, min_size=1, max_size=40))
@settings(deadline=None)
def test_they_are_what_the_librarys_values_count(requests: list[Asked]) -> None:
    with simulated.scene() as scene:
        recorder = HttpMetrics(Records().registry)
        for request in requests:
            recorder.record(*request)
        assert all(isinstance(one, _SharedSeries) for one in recorder._series.values())
        assert http(scene.samples()) == pytest.approx(expected(requests))


def test_a_forked_child_adds_to_files_of_its_own(scene: Scene) -> None:
    recorder = HttpMetrics(Records().registry)
    recorder.record(*REQUEST)

    def work() -> None:
        recorder.record(*REQUEST)
        recorder.record(*REQUEST)

    assert ended(forked(work)) == 0
    recorder.record(*REQUEST)
    assert http(scene.samples()) == pytest.approx(expected([REQUEST] * 4))


def test_files_that_grow_meanwhile_lose_nothing(scene: Scene) -> None:
    recorder = HttpMetrics(Records().registry)
    requests = []
    for number in range(200):  # some 400 bytes a series, of which the first file takes 16 KiB
        requests += [REQUEST, ("GET", 200, f"/{number}", 0.1, 1, 1)]
    for request in requests:
        recorder.record(*request)
    assert http(scene.samples()) == pytest.approx(expected(requests))


@pytest.mark.parametrize("kind", ["counter", "summary", "histogram"])
def test_what_finds_no_room_costs_its_own_count_only(scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    real = MappedFile.position
    refused: list[bytes] = []

    def position(file: Any, key: bytes, initial: float = 0.0) -> int:
        # The second of the kind: the first and the third are in the file.
        if file.path.name.startswith(kind) and key not in refused and len(file._positions) == 1 and not refused:
            refused.append(key)
        if key in refused:
            raise NoRoomError
        return real(file, key, initial)

    monkeypatch.setattr(MappedFile, "position", position)
    recorder = HttpMetrics(Records().registry)
    for request in (REQUEST, REQUEST, ("GET", 404, "/y", 0.2, 0, 0)):
        recorder.record(*request)
    assert refused
    wanted = expected([REQUEST, REQUEST, ("GET", 404, "/y", 0.2, 0, 0)])
    found = http(scene.samples())
    lost = {key for key in wanted if found.get(key) != pytest.approx(wanted[key])}
    assert lost
    assert len({name for name, _ in lost}) <= 2
    if kind != "counter":
        assert found[TOTAL] == 2


class Counted:
    """A lock that counts how often it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        """Let go."""


def test_a_request_is_added_under_one_lock_and_so_is_whatever_else_is_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, depth = HttpMetrics(Records().registry), Gauge("depth", "Depth.", registry=None, multiprocess_mode="max")
    recorder.record(*REQUEST)
    lock = Counted()
    monkeypatch.setattr(values.process(), "lock", lock)
    taken = []
    for write in (
        lambda: recorder.record(*REQUEST),
        lambda: depth.set(7),
        depth.inc,
        lambda: depth._value.set_exemplar(Exemplar({"trace_id": "1"}, 1.0, 1.0)),
        depth._value.get,
    ):
        before = lock.taken
        write()
        taken.append(lock.taken - before)
    assert taken == [1] * 5
    assert scene.samples()[TOTAL] == 2
