"""Names under the escaping schemes: as the library writes them, and what becomes equal is left out, not the scrape."""

import logging
from collections.abc import Callable
from itertools import product
from typing import Any

import prometheus_client.values
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.exposition import escape_label_name, escape_metric_name
from structlog.testing import capture_logs

from app.monitoring.metrics.catalogue import catalogue
from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.multiprocess import aggregate
from app.monitoring.multiprocess.aggregate import exposition
from app.monitoring.multiprocess.names import AmbiguousNameError, exposable, label_name, metric_name
from tests.monitoring.multiprocess.simulated import Scene

ALLOW, UNDERSCORES, DOTS, VALUES = SCHEMES = ("allow-utf-8", "underscores", "dots", "values")
# Made here, in single-process mode, for the same reason as the catalogue in simulated.py.
COUNTED = catalogue().exporter_hidden_metrics
NAMES = frozenset({"d_total", "e"})
Make = Callable[[type[Any], str, list[str]], Any]


def accept(scheme: str, media_type: str = "text/plain") -> str:
    return f"{media_type};version=1.0.0;escaping={scheme}"


def use(registry: CollectorRegistry | None) -> None:
    """Count with metrics of each kind whose names are and are not legacy names."""
    for name, labels in product(("plain", "with.dot", "mit_ümlaut", 'quote"\\'), ((), ("a_b",), ("c.d", "é"))):
        prefix = f"{name}_{len(labels)}"
        made: list[Any] = [
            Counter(f"{prefix}.hits_total", "Help.", labels, registry=registry),
            Gauge(f"{prefix}.depth", "Help.", labels, registry=registry, multiprocess_mode="sum"),
            Histogram(f"{prefix}.took", "Help.", labels, registry=registry),
            Summary(f"{prefix}.size", "Help.", labels, registry=registry),
        ]
        for metric in made:
            one = metric.labels(*['v."\\\n é'] * len(labels)) if labels else metric
            (one.observe if isinstance(metric, Histogram | Summary) else one.inc)(2)


@pytest.fixture(scope="module")
def oracle() -> CollectorRegistry:
    """Return a registry with values in memory."""
    own = CollectorRegistry()
    use(own)
    return own


def lines(exposition: bytes) -> list[str]:
    """Return the lines in an order, without those that only values in memory have."""
    return sorted(line for line in exposition.decode().split("\n") if "created" not in line)


def test_names_are_exposed_as_the_library_does_under_every_scheme(oracle: CollectorRegistry, scene: Scene) -> None:
    with scene.worker().at_work():
        use(None)
    reader = scene.aggregate()
    for scheme in (*SCHEMES, UNDERSCORES, DOTS):
        found, content_type = reader.exposition(accept(scheme))
        assert lines(found) == lines(generate_latest(oracle, scheme))
        assert content_type.endswith(f"escaping={scheme}")
        if scheme != VALUES:  # the library escapes there names of samples that the header has as they are
            found, content_type = reader.exposition(accept(scheme, "application/openmetrics-text"))
            assert lines(found) == lines(openmetrics.generate_latest(oracle, scheme))  # type: ignore[no-untyped-call]
            assert content_type.endswith(f"escaping={scheme}")


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=8), st.sampled_from(SCHEMES))
def test_a_name_is_escaped_as_the_library_does(name: str, scheme: str) -> None:
    if not name.endswith("\n"):  # the library takes such a name as it is, and its line ends there
        assert metric_name(name, scheme) == escape_metric_name(name, scheme)
        assert label_name(name, scheme) == escape_label_name(name, scheme)
    assert "\n" not in metric_name(name, scheme)


LABELS = st.dictionaries(st.text("a._:-\0", max_size=3), st.sampled_from("xy"), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(LABELS.map(lambda labels: tuple(sorted(labels.items()))), max_size=5), st.sampled_from(SCHEMES))
def test_label_sets_that_are_left_are_different_and_have_each_label_once(
    sets: list[tuple[tuple[str, str], ...]], scheme: str
) -> None:
    left = exposable("m", sets, scheme)
    assert left <= set(sets)
    assert left == exposable("m", reversed(sets), scheme)
    shown = [frozenset((label_name(name, scheme), value) for name, value in labels) for labels in left]
    assert len(set(shown)) == len(left)
    for one, labels in zip(shown, left, strict=True):
        assert len({name for name, _ in one}) == len(labels)
    legacy = {labels for labels in sets if all(label_name(name, VALUES) == name for name, _ in labels)}
    assert legacy <= left or scheme == DOTS


def ambiguous(make: Make) -> None:
    """Count with metrics whose names are equal after escaping."""
    make(Counter, "c_total", ["http.route", "http_route"]).labels("/a", "/b").inc(3)
    make(Counter, "a.b_total", []).inc(5)
    make(Counter, "a_b_total", []).inc(7)
    make(Gauge, "g-h", ["x"]).labels("1").set(1)
    make(Gauge, "g.h", ["x"]).labels("1").set(2)


def plain(kind: type[Any], name: str, labels: list[str]) -> Any:
    return kind(name, "H.", labels, registry=None, **({"multiprocess_mode": "max"} if kind is Gauge else {}))


SURVIVORS = {
    UNDERSCORES: ["a_b_total 7.0", 'g_h{x="1"} 1.0'],
    ALLOW: [
        "a_b_total 7.0", 'c_total{"http.route"="/a",http_route="/b"} 3.0', '{"a.b_total"} 5.0', '{"g-h",x="1"} 1.0',
        '{"g.h",x="1"} 2.0',
    ],
    DOTS: [
        "a__b__total 7.0", "a_dot_b__total 5.0", 'c__total{http_dot_route="/a",http__route="/b"} 3.0',
        'g__h{x="1"} 1.0', 'g_dot_h{x="1"} 2.0',
    ],
    VALUES: [
        "U__a_2e_b__total 5.0", 'U__g_2d_h{x="1"} 1.0', 'U__g_2e_h{x="1"} 2.0', "a_b_total 7.0",
        'c_total{U__http_2e_route="/a",http_route="/b"} 3.0',
    ],
}  # fmt: skip


def series(body: bytes) -> list[str]:
    return sorted(line for line in body.decode().splitlines() if not line.startswith("#") and "_created" not in line)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_of_equal_names_the_one_that_needs_no_escaping_is_left(scene: Scene, scheme: str) -> None:
    with scene.worker().at_work():
        ambiguous(plain)
    found = scene.aggregate().exposition(accept(scheme))[0]
    assert series(found) == sorted(SURVIVORS[scheme])
    headers = [line for line in found.decode().splitlines() if line.startswith("# TYPE")]
    assert len(headers) == len({line.split()[2] for line in headers})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_in_single_process_mode_the_same_names_are_left(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(aggregate, "_logged", set())
    own = CollectorRegistry()
    ambiguous(lambda kind, name, labels: kind(name, "H.", labels, registry=own))
    with capture_logs() as logged:
        for _ in range(2):
            found = exposition(accept(scheme), own)[0]
    assert series(found) == sorted(SURVIVORS[scheme])
    hidden = {"a.b", "c", "g.h"} if scheme == UNDERSCORES else set()
    assert sorted(line["metric"] for line in logged if line["event"] == "metric_hidden") == sorted(hidden)


@pytest.mark.parametrize("media_type", ["text/plain", "application/openmetrics-text"])
def test_in_single_process_mode_a_lone_surrogate_fails_no_scrape(
    monkeypatch: pytest.MonkeyPatch, media_type: str
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    own = BoundedRegistry()
    Counter("files_total", "H\udc80.", ["path"], registry=own).labels("a\udcff").inc(2, {"path": "b\ud800"})
    body = exposition(accept(UNDERSCORES, media_type), own)[0]
    exemplar = ' # {path="b?"} 2.0 ' if media_type == "application/openmetrics-text" else ""
    assert f'files_total{{path="a?"}} 2.0{exemplar}' in body.decode()


EXEMPLAR = {"trace.id": "1", "trace_id": "2", "a-b": "3", "": "4"}


def test_labels_of_an_exemplar_are_escaped_in_both_modes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    own = BoundedRegistry()
    with scene.worker().at_work():
        Counter("rides_total", "H.", registry=None).inc(2, EXEMPLAR)
    for scheme in SCHEMES:
        body = scene.aggregate().exposition(accept(scheme, "application/openmetrics-text"))[0]
        assert '# {a_b="3",trace_id="2"} 2.0 ' in body.decode()
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    monkeypatch.setattr(prometheus_client.values, "ValueClass", prometheus_client.values.MutexValue)
    Counter("rides_total", "H.", registry=own).inc(2, EXEMPLAR)
    body = exposition(accept(ALLOW, "application/openmetrics-text"), own)[0]
    assert '# {a_b="3",trace_id="2"} 2.0 ' in body.decode()


def test_a_gauge_beside_a_histogram_that_has_its_name_is_hidden(scene: Scene) -> None:
    with scene.worker().at_work():
        plain(Gauge, "x_count", []).set(11)
        plain(Histogram, "x", []).observe(1)
    body = scene.aggregate().exposition(accept(ALLOW))[0].decode()
    assert [line for line in body.splitlines() if line.startswith("x_count")] == ["x_count 1.0"]


def test_a_family_without_samples_hides_no_other(scene: Scene) -> None:
    reader, first = scene.aggregate(), scene.worker()
    with first.at_work():
        Gauge("g_h", "H.", registry=None, multiprocess_mode="livemax").set(1)
    with scene.worker().at_work():
        plain(Gauge, "g.h", []).set(2)
    assert series(reader.exposition("")[0]) == ["g_h 1.0"]
    first.die()
    assert series(reader.exposition("")[0]) == ["g_h 2.0"]


def test_what_is_hidden_is_counted_and_logged_once(scene: Scene) -> None:
    with scene.worker().at_work():
        ambiguous(plain)
    reader = scene.aggregate()
    before = {name: COUNTED.labels(name)._value.get() for name in ("a.b", "c", "g.h", "a_b")}
    with capture_logs() as logged:
        for pack in (False, True, False):
            reader.exposition("", pack=pack)
    assert sorted(line["metric"] for line in logged) == ["a.b", "c", "g.h"]
    assert {line["log_level"] for line in logged} == {logging.getLevelName(logging.WARNING).lower()}
    after = {name: COUNTED.labels(name)._value.get() - before[name] for name in before}
    assert after == {"a.b": 1, "c": 1, "g.h": 1, "a_b": 0}


def test_label_names_of_two_releases_that_become_equal_give_one_series(scene: Scene) -> None:
    for label, amount in (("http.route", 2), ("http_route", 9)):
        with scene.worker().at_work():
            plain(Counter, "d_total", [label]).labels("/d").inc(amount)
            plain(Gauge, "e", [label]).labels("/d").set(amount)
    reader = scene.aggregate()
    legacy = ['d_total{http_route="/d"} 9.0', 'e{http_route="/d"} 9.0']
    both = ['d_total{"http.route"="/d"} 2.0', 'e{"http.route"="/d"} 2.0', *legacy]
    for _ in range(2):
        assert series(reader.exposition("", names=NAMES)[0]) == legacy
        assert series(reader.exposition(accept(ALLOW), names=NAMES)[0]) == sorted(both)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("c_total", ["http.route", "http_route"], "c: the labels 'http.route' and 'http_route' are both 'http_route'"),
        ("c_total", ["a-b", "a.b"], "'a-b' and 'a.b' are both 'a_b' .* underscores: rename one"),
        ("c_total", [""], "c: the name '' cannot be exposed"),
        ("c_total", ["a\0"], "c: the name 'a\\\\x00' cannot be exposed"),
        ("c\n_total", [], "cannot be exposed: want printable characters"),
        ("c_total", ["..name__"], "the label '..name__' is '__name__' after escaping, which is reserved"),
        ("a_b_total", [], "'a_b' and 'a.b' are both 'a_b' for a scraper that asks for underscores: rename one"),
        ("a-b_total", [], "'a-b' and 'a.b' are both 'a_b'"),
        ("x_y.z", [], "'x_y.z' and 'x.y_z' are both 'x_y_z'"),
        ("U__a_2e_b", [], "'U__a_2e_b' and 'a.b' are both 'U__a_2e_b' for a scraper that asks for values"),
    ],
)
def test_a_definition_that_would_be_hidden_is_refused(name: str, labels: list[str], message: str) -> None:
    own = BoundedRegistry()
    Counter("a.b_total", "H.", registry=own)
    Gauge("x.y_z", "H.", registry=own)
    with pytest.raises(AmbiguousNameError, match=message):
        Counter(name, "H.", labels, registry=own)
    assert name.removesuffix("_total") not in own._names_to_collectors


def test_a_name_that_is_free_again_may_be_used() -> None:
    own = BoundedRegistry()
    first = Gauge("a.b", "H.", registry=own)
    with pytest.raises(AmbiguousNameError):
        Gauge("a_b", "H.", registry=own)
    own.unregister(first)
    Gauge("a_b", "H.", registry=own)
