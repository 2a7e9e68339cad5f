"""Exemplars: the newest of any process, through deaths, folds and half-written records."""

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Histogram, metrics
from prometheus_client.samples import Exemplar

from app.monitoring.multiprocess import exemplars as module
from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.clock import WriteClock
from app.monitoring.multiprocess.directory import SET_ASIDE
from app.monitoring.multiprocess.entries import INVALID_KEY, LeftOut
from app.monitoring.multiprocess.exemplars import PAYLOAD, pack, unpack
from app.monitoring.multiprocess.mapped_file import NoRoomError
from app.monitoring.multiprocess.reader import Reader, listing
from app.monitoring.multiprocess.series import exemplar_text
from app.monitoring.multiprocess.source import ExemplarSource
from tests.monitoring.multiprocess.simulated import OPENMETRICS, Scene, exemplars, series, text

HITS = series("hits_total")
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LABELS = st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the times of exemplars; a test sets the current one by appending."""
    now = [1000.0]
    monkeypatch.setattr(metrics, "time", SimpleNamespace(time=lambda: now[-1]))
    return now


def newest(reader: Reader) -> dict[str, tuple[str, float]]:
    """Return trace and value by sample, with the bucket's boundary."""
    return {
        name + "".join(sorted(value for label, value in labels if label == "le")): (
            found.labels["trace_id"],
            found.value,
        )
        for (name, labels), found in exemplars(text(reader, openmetrics=True)).items()
    }


def test_the_newest_of_any_process_is_shown_by_bucket_and_survives_every_death(
    scene: Scene, clock: list[float]
) -> None:
    keeper, watcher = scene.keeper(), scene.reader()
    workers = [scene.worker() for _ in range(3)]
    with workers[0].at_work():
        hits = Counter("hits", "Hits.", registry=None)
        took = Histogram("took", "Took.", registry=None, buckets=(1, 2))
    events = [(0, 0.5, 10.0), (1, 1.5, 12.0), (2, 0.7, 11.0), (0, 1.7, 13.0), (1, 0.2, 9.0), (2, 2.5, 14.0)]
    for place, amount, when in events:
        clock.append(when)
        with workers[place].at_work():
            took.observe(amount, {"trace_id": f"at {when:g}"})
            hits.inc(2, {"trace_id": f"at {when:g}"})
    expected = {
        "hits_total": ("at 14", 2.0),
        "took_bucket1.0": ("at 11", 0.7),
        "took_bucket2.0": ("at 13", 1.7),
        "took_bucket+Inf": ("at 14", 2.5),
    }
    for worker in (None, *workers):
        if worker is not None:
            worker.die()
        keeper.fold()
        watcher.refresh()
        assert newest(watcher) == newest(keeper.reader) == newest(scene.reader()) == expected
    assert not list(scene.directory.glob("*.exemplars"))
    last = scene.worker()
    clock.append(15.0)
    with last.at_work():
        hits.inc(1, {"trace_id": "at 15"})
    watcher.refresh()
    assert newest(watcher) == newest(scene.reader()) == {**expected, "hits_total": ("at 15", 1.0)}


def test_the_text_format_has_none(scene: Scene) -> None:
    Counter("hits", "Hits.", registry=None).inc(1, {"trace_id": "1"})
    reader = scene.reader()
    assert " # {" in text(reader, openmetrics=True)
    assert " # {" not in text(reader)


@PATIENT
@given(LABELS, st.floats(allow_nan=False), st.floats(0, 1e11))
def test_a_record_is_read_as_it_was_written(labels: dict[str, str], value: float, when: float) -> None:
    content = json.dumps(labels).encode()
    found = unpack(pack(content, value, when).ljust(PAYLOAD, b"\xff"))
    assert found == Exemplar(labels, value, when)


@PATIENT
@given(LABELS, LABELS, st.floats(allow_nan=False), st.integers(1, PAYLOAD))
def test_a_record_that_was_half_written_over_another_is_none_or_whole(
    old: dict[str, str], new: dict[str, str], value: float, written: int
) -> None:
    before = pack(json.dumps(old).encode(), 1.0, 10.0).ljust(PAYLOAD, b"\0")
    after = pack(json.dumps(new).encode(), value, 11.0)
    torn = after[:written] + before[min(written, len(after)) :]
    assert unpack(torn) in (None, unpack(before), Exemplar(new, value, 11.0))
    if 24 < written < len(after) and after[written:] != before[written : len(after)]:
        assert unpack(torn) is None


def test_an_exemplar_that_is_read_while_it_is_written_is_left_out_and_the_last_whole_one_stays(
    scene: Scene, clock: list[float]
) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits.inc(1, {"trace_id": "first"})
    reader = scene.reader()
    assert newest(reader) == {"hits_total": ("first", 1.0)}
    (file,) = scene.directory.glob("*.exemplars")
    whole = file.read_bytes()
    spoilt = bytearray(whole)
    spoilt[whole.index(b"first")] ^= 1
    file.write_bytes(spoilt)
    reader.refresh()
    assert newest(reader) == {"hits_total": ("first", 1.0)}
    assert newest(scene.reader()) == {}
    file.write_bytes(whole)
    assert newest(scene.reader()) == {"hits_total": ("first", 1.0)}


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        # No quote: the library's parser does not know one in an exemplar.
        ({"trace_id": "\ud800", "b": "ü\\\n"}, {"trace_id": "?", "b": "ü\\\n"}),
        ({"trace_id": "\U0001f334" * 40}, {"trace_id": "\U0001f334" * 40}),
        ({"trace_id": "\U0001f334" * 80}, None),
        ({"trace_id": '"' * 115}, None),
    ],
)
def test_labels_are_kept_as_they_are_and_left_out_where_they_are_too_long(
    scene: Scene, given_: dict[str, str], shown: dict[str, str] | None
) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits.inc(1, given_)
    found = exemplars(text(scene.reader(), openmetrics=True))
    assert found.get(HITS) is None if shown is None else found[HITS].labels == shown
    assert scene.samples() == {HITS: 1}


def test_an_exemplar_whose_series_comes_after_the_reading_is_shown_by_the_next(scene: Scene) -> None:
    reader = scene.reader()
    Counter("hits", "Hits.", registry=None).inc(1, {"trace_id": "1"})
    reader.listing = listing(str(scene.directory))
    assert newest(reader) == {}
    reader.refresh()
    assert newest(reader) == {"hits_total": ("1", 1.0)}


def test_a_series_that_found_no_room_leaves_no_exemplar(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise NoRoomError

    with monkeypatch.context() as patch:
        patch.setattr(values, "MappedFile", full)
        lost = Counter("lost", "Lost.", registry=None)
    lost.inc(1, {"trace_id": "1"})
    assert not list(scene.directory.glob("*.exemplars"))


def test_exemplars_of_series_that_are_never_shown_do_not_pile_up(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", ("number",), registry=None)
    keeper, sizes = scene.keeper(max_series=1), set()
    hits.labels("shown").inc()
    for number in range(20):
        hits.labels("past the limit").inc(1, {"trace_id": str(number)})
        keeper.fold()
        assert newest(keeper.reader) == {}
        sizes.add(len(keeper.reader._unplaced))
    assert sizes == {1}
    values.process().close()
    keeper.fold()
    assert keeper.reader.archive.exemplars == {}


def test_exemplars_of_the_dead_do_not_pile_up_where_only_text_is_asked_for(scene: Scene) -> None:
    keeper = scene.keeper()
    for number in range(20):
        worker = scene.worker()
        with worker.at_work():
            Counter("hits", "Hits.", registry=None).inc(1, {"trace_id": str(number)})
        worker.die()
        keeper.scrape()
    assert len(keeper.reader._unplaced) + len(keeper.reader._archived_exemplars) == 1
    assert newest(keeper.reader) == {"hits_total": ("19", 1.0)}


def test_a_full_disk_costs_the_exemplar_and_not_the_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = Counter("hits", "Hits.", registry=None)

    def full(*_: object) -> None:
        raise NoRoomError

    with monkeypatch.context() as patch:
        patch.setattr(module, "MappedFile", full)
        hits.inc(1, {"trace_id": "1"})
    hits.inc(1, {"trace_id": "2"})
    assert newest(scene.reader()) == {"hits_total": ("2", 1.0)}


def test_an_exemplar_with_a_garbled_key_is_left_out_and_the_others_of_its_file_are_shown(scene: Scene) -> None:
    worker, aggregate = scene.worker(), scene.aggregate()
    with worker.at_work():
        Counter("other", "Other.", registry=None).inc(2, {"trace_id": "1"})
        Counter("hits", "Hits.", ("place",), registry=None).labels("Ubud").inc(3, {"trace_id": "2"})
    (file,) = scene.directory.glob("*.exemplars")
    file.write_bytes(file.read_bytes().replace(b"other_total", b"other\xfftotal"))
    for lives in (True, False):
        if not lives:
            worker.die()
        for _ in range(2):
            body = aggregate.exposition(OPENMETRICS)[0].decode()
            assert "other_total 2.0\n" in body
            assert 'hits_total{place="Ubud"} 3.0 # {trace_id="2"}' in body
            assert aggregate.reader.left_out.counts == {INVALID_KEY: 1}
    assert not file.exists()
    assert not (scene.directory / SET_ASIDE).exists()


@pytest.mark.parametrize("beyond", [0, 1, 8, PAYLOAD])
def test_labels_that_are_too_long_do_not_spoil_the_next_record(scene: Scene, beyond: int) -> None:
    writer, path = module.Writer(scene.directory, "1-00000000"), str(scene.directory / "1-00000000.exemplars")
    first, second = (json.dumps([name, f"{name}_total", {}, ""]).encode() for name in ("first", "second"))
    near = Exemplar({"a": "near"}, 1.0, 1.0)
    long = Exemplar({"a": "x" * (module.MAX_LABELS_LENGTH - len('{"a":""}') + beyond)}, 2.0, 2.0)
    for key in (first, second):
        writer.write(key, near)
    writer.write(first, long)
    writer.close()
    source = ExemplarSource(path, LeftOut())
    source.refresh(WriteClock())
    assert {seen.key: seen.exemplar for seen in source.changed()} == {first: near if beyond else long, second: near}
    assert source.changed() == []


def test_an_exemplar_of_an_infinite_value_is_written_as_openmetrics_has_it() -> None:
    assert exemplar_text(Exemplar({"a": "b"}, math.inf, 1.5)) == ' # {a="b"} +Inf 1.5'
