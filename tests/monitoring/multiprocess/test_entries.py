"""An entry in doubt costs its own value only, in files and archive; the writer refuses it first."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from structlog.testing import capture_logs

from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.archive import Archive, replace
from app.monitoring.multiprocess.entries import INVALID_KEY, KEY_TOO_LONG, MAX_KEY_LENGTH, NAME_IN_USE, SAMPLES
from app.monitoring.multiprocess.mapped_file import INITIAL_SIZE, MAX_SIZE, MappedFile, NoRoomError
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene, ended, exemplars, forked, series, shown, text
from tests.monitoring.multiprocess.test_faults import HITS, aside, counting, key, scrape, unreadable

PATIENT = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
LEFT_OUT = "baliblissed_exporter_entries_left_out_total"
FILE = "counter_1-00000000.db"
DOUBTFUL = {
    "no JSON": (b"no JSON", INVALID_KEY),
    "another shape": (b'["a", "b"]', INVALID_KEY),
    "no labels": (b'["a", "b", null, ""]', INVALID_KEY),
    "no name": (b'["", "_total", {}, ""]', INVALID_KEY),
    "nested too deep": (b"[" * 100_000, INVALID_KEY),
    "not UTF-8": (key("other").replace(b"Help", b"\xff\xfe"), INVALID_KEY),
    "UTF-16": (key("other").decode().encode("utf-16"), INVALID_KEY),
    "sample of another metric": (key("other", "another_total"), INVALID_KEY),
    "sample of another kind": (key("other", "other_bucket", le="1"), INVALID_KEY),
    "longer than any key": (key("other", place="x" * MAX_KEY_LENGTH), KEY_TOO_LONG),
    "another kind's name": (key("depth"), NAME_IN_USE),
}


def left_out(reason: str) -> float:
    return registry().get_sample_value(LEFT_OUT, {"reason": reason}) or 0.0


def write(path: Path, *entries: tuple[bytes, float]) -> None:
    """Write a well-formed file."""
    file = MappedFile(path)
    for one, value in entries:
        cell = file.position(one) // 8
        file.cells[cell] = value
    file.close()


@pytest.mark.parametrize(("doubtful", "reason"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_only_the_entry_in_doubt_is_left_out_and_it_is_counted_once(scene: Scene, doubtful: bytes, reason: str) -> None:
    with scene.worker().at_work():
        Counter("hits", "Hits.", registry=None).inc(2)
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(3)
    folding, reading = scene.aggregate(), scene.aggregate(folds=False)
    assert scrape(folding) == scrape(reading) == {HITS: 2, series("depth"): 3}
    write(scene.directory / FILE, (key("hits"), 5), (doubtful, 7), (key("other", place="b"), 11))
    good = {HITS: 7, series("depth"): 3, series("other_total", place="b"): 11}
    before, files = left_out(reason), unreadable()
    with capture_logs() as lines:
        assert scrape(reading) == good
        for _ in range(3):  # the first scrape folds the file: its process is dead
            assert scrape(folding) == good
    assert scrape(reading) == scrape(scene.aggregate(folds=False)) == good
    assert (left_out(reason), unreadable(), aside(scene)) == (before + 1, files, [])
    assert [(line["event"], line["reason"], line["entries"]) for line in lines] == [
        ("metric_entries_left_out", reason, 1)
    ]


@pytest.mark.parametrize(
    "name",
    [name for name in DOUBTFUL if name not in {"not UTF-8", "UTF-16"}],  # an archive is JSON
)
def test_only_the_entry_in_doubt_of_an_archive_is_left_out(scene: Scene, name: str) -> None:
    doubtful, reason = DOUBTFUL[name]
    with scene.worker().at_work():
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(3)
    aggregate = scene.aggregate()
    assert scrape(aggregate) == {series("depth"): 3}
    archive, before = Archive(), left_out(reason)
    archive.add("counter", [key("hits"), doubtful, key("other")], [(5, 0), (7, 0), (11, 0)])
    replace(scene.directory, archive)
    good = {HITS: 5, series("other_total"): 11, series("depth"): 3}
    assert scrape(aggregate) == good
    counting(scene, 2).die()
    for _ in range(3):
        assert scrape(aggregate) == {**good, HITS: 7}
    assert left_out(reason) == before + 1


KEYS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.recursive(st.none() | st.text(max_size=4) | st.integers(), lambda inner: st.lists(inner, max_size=5)).map(
        lambda shape: json.dumps(shape).encode()
    ),
    st.sampled_from([doubtful for doubtful, _ in DOUBTFUL.values() if len(doubtful) < 1000]),
)


@PATIENT
@given(st.lists(KEYS, max_size=6), st.sampled_from(["counter", "histogram", "summary", "gauge_max", "gauge_all"]))
def test_whatever_keys_a_file_has_its_other_entries_are_exact_while_it_lives_and_in_the_archive(
    keys: list[bytes], kind: str
) -> None:
    typ = kind.partition("_")[0]
    sample = f"steady{SAMPLES[typ][-1]}"
    steady = json.dumps(["steady", sample, {}, ""]).encode()
    with simulated.scene() as scene:
        worker = counting(scene)
        entries = [(one, 1.0) for one in dict.fromkeys(keys)]
        path = scene.directory / (FILE if typ == "counter" else f"{kind}_{worker.identity}.db")
        write(path, *entries, (steady, 42.0))
        aggregate = scene.aggregate()

        def found() -> dict[str, float]:
            return {name: value for (name, _), value in scrape(aggregate).items() if name in {sample, "hits_total"}}

        assert found() == {sample: 42, "hits_total": 2}
        worker.die()
        assert found() == found() == {sample: 42, "hits_total": 2}
        assert aside(scene) == []


def test_a_label_value_past_the_limit_is_refused_by_the_writer_and_costs_its_own_series_only(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", ("place",), registry=CollectorRegistry())
    hits.labels("Ubud").inc(6)
    with capture_logs() as lines:
        hits.labels("x" * 1_100_000).inc(1, {"trace_id": "1"})
    hits.labels("Kuta").inc(2)
    assert lines == []  # a request waits for no log line: see ProcessMetrics
    assert scene.samples() == {series("hits_total", place="Ubud"): 6, series("hits_total", place="Kuta"): 2}
    assert values.process().denied() == {("hits", KEY_TOO_LONG): 1}
    assert sum(file.stat().st_size for file in scene.directory.glob("*.db")) == INITIAL_SIZE
    assert exemplars(text(scene.reader(), openmetrics=True)) == {}


@pytest.mark.parametrize("length", [MAX_KEY_LENGTH, MAX_KEY_LENGTH + 1])
def test_writer_and_reader_have_the_same_limit(scene: Scene, length: int) -> None:
    empty = len(key("hits", place="").replace(b"Help.", b""))
    Counter("hits", "", ("place",), registry=None).labels("x" * (length - empty)).inc(2)
    fits = length == MAX_KEY_LENGTH
    assert list(scene.samples().values()) == ([2] if fits else [])
    assert values.process().denied() == ({} if fits else {("hits", KEY_TOO_LONG): 1})


OTHERS: dict[str, Callable[[], object]] = {
    "histogram": lambda: Histogram("jobs", "Jobs.", registry=CollectorRegistry(), buckets=(1,)).observe(0.5),
    "summary": lambda: Summary("jobs", "Jobs.", registry=CollectorRegistry()).observe(0.5),
    "gauge": lambda: Gauge("jobs", "Jobs.", registry=CollectorRegistry(), multiprocess_mode="livesum").set(9),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_name_that_another_registry_uses_with_another_type_is_refused_and_unrelated_metrics_stay(
    scene: Scene, other: str
) -> None:
    Counter("jobs_total", "Jobs.", registry=CollectorRegistry()).inc(2)
    latency = Histogram("latency", "Latency.", registry=CollectorRegistry(), buckets=(1,))
    steady = Gauge("steady", "Steady.", registry=CollectorRegistry(), multiprocess_mode="livesum")
    latency.observe(0.5)
    steady.set(4)
    OTHERS[other]()
    latency.observe(0.5)
    found = scene.samples()
    assert found[series("jobs_total")] == 2
    assert found[series("latency_count")] == 2
    assert found[series("steady")] == 4
    assert {name for name, _ in found if name.startswith("jobs")} == {"jobs_total"}
    assert {reason for _, reason in values.process().denied()} == {NAME_IN_USE}


@pytest.mark.parametrize("other", OTHERS)
def test_two_processes_that_use_a_name_with_two_types_cost_each_other_that_metric_only(
    scene: Scene, other: str
) -> None:
    first, second = scene.worker(), scene.worker()
    with first.at_work():
        Counter("jobs_total", "Jobs.", registry=None).inc(2)
    aggregate = scene.aggregate()
    assert scrape(aggregate) == {series("jobs_total"): 2}
    with second.at_work():
        OTHERS[other]()
        Histogram("latency", "Latency.", registry=None, buckets=(1,)).observe(0.5)
        Summary("size", "Size.", registry=None).observe(3)
        Gauge("steady", "Steady.", registry=None, multiprocess_mode="livesum").set(4)
    before = left_out(NAME_IN_USE)
    found = scrape(aggregate)
    assert {name for name, _ in found if name.startswith("jobs")} == {"jobs_total"}
    assert (found[series("latency_count")], found[series("size_sum")], found[series("steady")]) == (1, 3, 4)
    entries = {"histogram": 3, "summary": 2, "gauge": 1}[other]
    assert left_out(NAME_IN_USE) == before + entries
    second.die()
    for _ in range(2):
        found = scrape(aggregate)
        assert (found[series("latency_count")], found[series("size_sum")], found[series("jobs_total")]) == (1, 3, 2)
    assert left_out(NAME_IN_USE) == before + entries


def test_a_forked_child_refuses_the_names_that_its_parent_refuses(scene: Scene) -> None:
    hits = Counter("jobs_total", "Jobs.", registry=CollectorRegistry())
    sizes = Histogram("jobs", "Jobs.", registry=CollectorRegistry())

    def work() -> None:
        sizes.observe(1)  # before the counter's first increment in this process
        hits.inc(3)

    assert ended(forked(work)) == 0
    hits.inc(2)
    assert scene.samples() == {series("jobs_total"): 5}


def test_a_metric_that_is_declared_again_with_its_type_is_not_refused(scene: Scene) -> None:
    for _ in range(2):
        Counter("jobs_total", "Jobs.", registry=CollectorRegistry()).inc(2)
    assert scene.samples() == {series("jobs_total"): 4}
    assert values.process().denied() == {}


def test_a_sample_that_no_reader_would_show_is_refused(scene: Scene) -> None:
    value = values.SharedValue("counter", "odd", "odd_rate", (), (), "Odd.")
    value.inc(2)
    Counter("hits", "Hits.", registry=None).inc(2)
    assert scene.samples() == {HITS: 2}
    assert values.process().denied() == {("odd", INVALID_KEY): 1}


def test_a_file_does_not_outgrow_the_number_in_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SIZE < 1 << 31
    monkeypatch.setattr("app.monitoring.multiprocess.mapped_file.MAX_SIZE", INITIAL_SIZE)
    file = MappedFile(tmp_path / FILE)
    with pytest.raises(NoRoomError, match="want 16384 or fewer"):
        file.position(b"x" * INITIAL_SIZE)
    cell = file.position(b"fits") // 8
    file.cells[cell] = 1.0
    assert (tmp_path / FILE).stat().st_size == INITIAL_SIZE
    file.close()


def test_metrics_of_the_default_registry_are_refused_alike(scene: Scene) -> None:
    tours = Counter("tours_total", "Tours.", ("place",))
    try:
        tours.labels("x" * 1_100_000).inc()
        tours.labels("Ubud").inc(2)
        assert shown(scene.reader()) == {series("tours_total", place="Ubud"): 2}
    finally:
        REGISTRY.unregister(tours)
