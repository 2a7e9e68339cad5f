"""The catalogue, the guard of its cardinality, and the HTTP metrics of the real application."""

import re
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_fastapi_instrumentator import metrics as instrumentator

from app.monitoring import CardinalityError
from app.monitoring.metrics.catalogue import build_catalogue
from app.monitoring.metrics.registry import BoundedRegistry, registry
from app.monitoring.multiprocess.labels import FORBIDDEN_LABELS, MAX_SERIES_PER_METRIC, OVERFLOW
from app.settings import ROOT
from tests.agency import metrics_in
from tests.conftest import Application

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
REFUSED = "baliblissed_metrics_series_refused_total"
# Of docs/metrics.md: a metric's name, its type and its labels.
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram|summary) \|([\w, ]*)\| (.+) \|$", re.MULTILINE)


def bounded(max_series: int = 3) -> tuple[BoundedRegistry, Counter]:
    """Return a registry with one counter of two labels."""
    own = BoundedRegistry(max_series)
    return own, Counter("visits", "Visits.", ("place", "kind"), registry=own)


def series(metric: MetricWrapperBase) -> dict[tuple[str, ...], float]:
    """Return label values and value of each series of a counter or gauge."""
    return {
        tuple(sample.labels[name] for name in metric._labelnames): sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return type and labels of each metric by the tables of docs/metrics.md, in their order."""
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    names = [name for name, *_ in rows]
    assert len(set(names)) == len(names), "a metric is described twice"
    return {name: (kind, tuple(filter(None, labels.strip().split(", ")))) for name, kind, labels, _ in rows}


def declarations(group: object) -> Iterator[MetricWrapperBase]:
    """Yield the metrics of a dataclass of metrics and of such dataclasses, in their order."""
    for field in fields(group):  # type: ignore[arg-type]
        part = getattr(group, field.name)
        yield from declarations(part) if is_dataclass(part) else [part]


def form(metrics: Iterable[MetricWrapperBase]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the declared type and labels of each metric, in the same form."""
    return {
        metric._name + ("_total" if metric._type == "counter" else ""): (str(metric._type), tuple(metric._labelnames))
        for metric in metrics
    }


def test_the_document_has_every_metric_with_its_type_and_labels_and_no_other() -> None:
    own = BoundedRegistry()
    metrics_in(own)
    build_catalogue(own)
    assert instrumentator.default(registry=own) is not None
    assert described() == form(metric for metric in own._collector_to_names if isinstance(metric, MetricWrapperBase))


def test_the_document_has_the_catalogue_in_its_order() -> None:
    own = BoundedRegistry()
    groups = (metrics_in(own), build_catalogue(own))
    declared = form(metric for group in groups for metric in declarations(group))
    assert [name for name in described() if name in declared] == list(declared)


def test_every_row_of_a_table_of_metrics_is_one_that_is_compared() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text()
    rows = [line for line in document.splitlines() if line.startswith("| `")]
    assert [line for line in rows if not ROW.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("metric", "buckets"),
    [
        ("event_loop_lag", [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]),
        ("exporter_scrape_duration", [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]),
    ],
)
def test_a_histogram_has_exactly_its_buckets(metric: str, buckets: list[float]) -> None:
    assert getattr(build_catalogue(BoundedRegistry()), metric)._upper_bounds == [*buckets, float("inf")]


def test_the_histogram_of_ai_answers_has_exactly_its_buckets() -> None:
    metrics = metrics_in(BoundedRegistry())
    assert metrics.ai_request_duration._upper_bounds == [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, float("inf")]


def test_two_catalogues_in_one_registry_are_refused_as_the_library_does() -> None:
    own = BoundedRegistry()
    build_catalogue(own)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        build_catalogue(own)


def test_a_metric_may_have_ten_thousand_series_unless_told_otherwise() -> None:
    assert MAX_SERIES_PER_METRIC == 10_000
    assert BoundedRegistry().max_series == 10_000


@pytest.mark.parametrize("label", [*sorted(FORBIDDEN_LABELS), "userId", "UserID", "USER_ID", "SessionId", "_email_"])
def test_a_label_with_one_value_a_user_cannot_be_defined(label: str) -> None:
    own = BoundedRegistry()
    with pytest.raises(CardinalityError, match=re.escape(f"visits: label '{label}'")):
        Gauge("visits", "Visits.", ("place", label), registry=own)
    Gauge("visits", "Visits.", ("place",), registry=own)


@pytest.mark.parametrize(("name", "label"), [("n" * 129, "place"), ("visits", "l" * 129)])
def test_a_name_over_128_characters_cannot_be_defined(name: str, label: str) -> None:
    with pytest.raises(CardinalityError, match="has 129 characters: want 128 or fewer"):
        Gauge(name, "Visits.", (label,), registry=BoundedRegistry())


def test_names_of_128_characters_are_accepted() -> None:
    own = BoundedRegistry()
    Gauge("n" * 128, "Visits.", ("l" * 128,), registry=own).labels("Ubud").set(2)
    assert own.get_sample_value("n" * 128, {"l" * 128: "Ubud"}) == 2


def test_label_sets_past_the_limit_share_one_series_and_are_counted() -> None:
    own, visits = bounded(max_series=2)
    for place in ("Ubud", "Kuta", "Sanur", "Amed", "Sanur"):
        visits.labels(place, "day").inc(2)
    assert series(visits) == {("Ubud", "day"): 2, ("Kuta", "day"): 2, (OVERFLOW, OVERFLOW): 6}
    assert own.get_sample_value(REFUSED, {"metric": "visits", "reason": "too_many_series"}) == 3


def test_known_label_sets_count_on_when_the_limit_is_reached() -> None:
    own, visits = bounded(max_series=1)
    visits.labels("Ubud", "day").inc()
    visits.labels("Kuta", "day").inc()
    visits.labels("Ubud", "day").inc()
    visits.labels(kind="day", place="Ubud").inc()
    assert series(visits)["Ubud", "day"] == 3
    assert own.get_sample_value(REFUSED, {"metric": "visits", "reason": "too_many_series"}) == 1


def test_a_value_over_1024_characters_overflows_and_one_of_1024_does_not() -> None:
    own, visits = bounded()
    visits.labels("p" * 1024, "day").inc()
    visits.labels("p" * 1025, "day").inc(5)
    visits.labels(place="Ubud", kind="k" * 2000).inc(7)
    assert series(visits) == {("p" * 1024, "day"): 1, (OVERFLOW, OVERFLOW): 12}
    assert own.get_sample_value(REFUSED, {"metric": "visits", "reason": "value_too_long"}) == 2


def test_keyword_and_positional_labels_are_the_same_series() -> None:
    _, visits = bounded()
    visits.labels("Ubud", 7).inc()
    visits.labels(kind=7, place="Ubud").inc()
    assert series(visits) == {("Ubud", "7"): 2}


@pytest.mark.parametrize("known", ["unknown", "known", "past the limit"])
@pytest.mark.parametrize(
    ("values", "by_name"),
    [
        ((), {}),
        (("Ubud",), {}),
        (("Ubud", "day", "more"), {}),
        ((), {"place": "Ubud"}),
        ((), {"place": "Ubud", "kind": "day", "more": 1}),
        ((), {"place": "Ubud", "sort": "day"}),
        (("Ubud", "day"), {"place": "Ubud", "kind": "day"}),
    ],
)
def test_wrong_labels_raise_as_the_library_does(known: str, values: tuple[str, ...], by_name: dict[str, str]) -> None:
    own, visits = bounded(max_series=1 if known == "past the limit" else 10)
    if known == "known":
        visits.labels("Ubud", "day").inc()
    elif known == "past the limit":
        visits.labels("Kuta", "day").inc()
    before = series(visits)
    with pytest.raises(ValueError, match=r"Incorrect label|Can't pass both"):
        visits.labels(*values, **by_name)
    assert series(visits) == before
    assert own.get_sample_value(REFUSED, {"metric": "visits", "reason": "too_many_series"}) is None


def test_a_metric_without_labels_has_no_overflow() -> None:
    own = BoundedRegistry(1)
    total = Counter("rides", "Rides.", registry=own)
    total.inc(3)
    with pytest.raises(ValueError, match="No label names were set"):
        total.labels("x")
    assert own.get_sample_value("rides_total") == 3


def test_gauges_and_histograms_are_bounded_as_counters_are() -> None:
    own = BoundedRegistry(1)
    heat = Gauge("heat", "Heat.", ("place",), registry=own)
    wait = Histogram("wait", "Wait.", ("place",), registry=own)
    for place in ("Ubud", "Kuta"):
        heat.labels(place).set(30)
        wait.labels(place).observe(0.2)
    assert own.get_sample_value("heat", {"place": OVERFLOW}) == 30
    assert own.get_sample_value("wait_count", {"place": OVERFLOW}) == 1


def test_a_metric_that_was_cleared_counts_again_and_is_bounded_again() -> None:
    _, visits = bounded(max_series=1)
    visits.labels("Ubud", "day").inc()
    visits.labels("p" * 2000, "day").inc()
    visits.clear()
    visits.labels("Kuta", "day").inc()
    visits.labels("Amed", "day").inc()
    assert series(visits) == {("Kuta", "day"): 1, (OVERFLOW, OVERFLOW): 1}


def test_the_limit_can_be_changed_while_the_process_runs() -> None:
    own, visits = bounded(max_series=1)
    visits.labels("Ubud", "day").inc()
    own.max_series = 2
    visits.labels("Kuta", "day").inc()
    assert series(visits) == {("Ubud", "day"): 1, ("Kuta", "day"): 1}


def test_a_collector_that_is_no_metric_can_be_registered() -> None:
    class Clock:
        def collect(self) -> list[Any]:
            return []

    own = BoundedRegistry()
    own.register(Clock())
    assert [family.name for family in own.collect()] == ["baliblissed_metrics_series_refused"]


@PATIENT
@given(
    limit=st.integers(1, 5),
    calls=st.lists(
        st.tuples(
            st.text(max_size=2) | st.integers() | st.just("x" * 1025) | st.just(OVERFLOW),
            st.sampled_from(["day", "night"]),
            st.booleans(),
        ),
        max_size=40,
    ),
)
def test_whatever_label_sets_come_the_series_are_bounded_and_no_increment_is_lost(
    limit: int, calls: list[tuple[object, str, bool]]
) -> None:
    own, visits = bounded(limit)
    for place, kind, by_name in calls:
        child = visits.labels(place=place, kind=kind) if by_name else visits.labels(place, kind)
        child.inc()
    found = series(visits)
    refused = sum(value for key, value in series(own.refused).items())
    assert len(found) <= limit + 1
    assert sum(found.values()) == len(calls)
    assert refused <= found.get((OVERFLOW, OVERFLOW), 0)


def test_threads_together_do_not_pass_the_limit() -> None:
    _, visits = bounded(max_series=50)
    gate = threading.Barrier(8)

    def visit(thread: int) -> None:
        gate.wait()
        for place in range(50):
            visits.labels(f"{thread}-{place}", "day").inc()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(kept)
    assert len(series(visits)) <= 51
    assert sum(series(visits).values()) == 400


async def test_requests_are_counted_by_method_status_and_route_template(application: Application) -> None:
    labels = {"method": "GET", "status": "404", "handler": "/api/v1/destinations/{slug}"}
    before = registry().get_sample_value("http_requests_total", labels) or 0
    async with application() as client:
        await client.get("/api/v1/destinations/atlantis?when=now")
    assert registry().get_sample_value("http_requests_total", labels) == before + 1


@pytest.mark.parametrize(
    ("peer", "status"),
    [("127.0.0.1", 200), ("10.1.2.3", 200), ("172.16.0.1", 200), ("172.31.255.254", 200), ("::ffff:10.1.2.3", 200)]
    + [(peer, 403) for peer in ("192.168.1.1", "172.32.0.1", "8.8.8.8", "::1", "::ffff:8.8.8.8", "127.0.0.2")],
)
async def test_metrics_are_for_the_own_machine_and_private_networks(
    application: Application, peer: str, status: int
) -> None:
    async with application(peer=(peer, 40_000)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == status
    assert ("http_requests_total" in answer.text) is (status == 200)
