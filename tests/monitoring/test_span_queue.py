"""The queue of spans is bounded, whatever the exporter does, and each span that does not arrive is counted once."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, Counter

from app.monitoring import tracing
from app.monitoring.metrics.registry import registry
from app.monitoring.traces.span_queue import BoundedSpanProcessor
from tests.process.service import wait_for


class Slow(SpanExporter):
    """An exporter that takes spans when it is let, and does with them as it is told."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.taken: list[str] = []
        self.ended = False
        self.busy = threading.Event()
        self.free = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.busy.set()
        assert self.free.wait(30)
        self.taken += [span.name for span in spans]
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.ended = True

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        return True


class House:
    """A provider with a queue of ten spans before `exporter`."""

    def __init__(self, exporter: Slow, **options: Any) -> None:
        self.registry = CollectorRegistry()
        counter = Counter("spans_dropped_total", "Dropped.", ("reason",), registry=self.registry)
        self.exporter = exporter
        self.queue = BoundedSpanProcessor(exporter, counter, max_queue_size=10)
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(self.queue)

    def end(self, *names: str) -> None:
        for name in names:
            self.provider.get_tracer("test").start_span(name).end()

    def dropped(self) -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "spans_dropped_total"
        }


@pytest.fixture
def house() -> Iterator[House]:
    made = House(Slow())
    yield made
    made.exporter.free.set()
    made.provider.shutdown()


NONE = {"queue_full": 0, "export_failed": 0, "shutdown": 0}


def test_each_reason_is_exposed_before_it_happens(house: House) -> None:
    assert house.dropped() == NONE


def test_spans_arrive_in_their_order_and_none_is_dropped(house: House) -> None:
    house.exporter.free.set()
    names = [str(number) for number in range(8)]
    house.end(*names)
    assert house.queue.force_flush() is True
    assert house.exporter.taken == names
    assert house.dropped() == NONE


def test_no_more_than_ten_are_held_those_included_that_are_being_sent(house: House) -> None:
    house.end(*"0123456789")
    assert house.exporter.busy.wait(30)  # a full queue is sent at once
    house.end("late", "later")
    assert house.dropped() == {**NONE, "queue_full": 2}
    house.exporter.free.set()
    wait_for(lambda: house.queue._held == 0, "the delivery")
    house.end("again")
    assert house.queue.force_flush() is True
    assert house.exporter.taken == [*"0123456789", "again"]
    assert house.dropped() == {**NONE, "queue_full": 2}


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, OSError("away")])
def test_what_the_exporter_cannot_deliver_is_counted(house: House, result: SpanExportResult | Exception) -> None:
    house.exporter.result = result
    house.exporter.free.set()
    house.end("a", "b", "c")
    house.queue.force_flush()
    assert house.dropped() == {**NONE, "export_failed": 3}


def test_what_ends_after_the_end_is_counted(house: House) -> None:
    house.exporter.free.set()
    house.end("a")
    house.provider.shutdown()
    house.end("b", "c")
    assert (house.exporter.taken, house.exporter.ended) == (["a"], True)
    assert house.dropped() == {**NONE, "shutdown": 2}


def test_what_fails_while_the_worker_ends_is_lost_at_shutdown(house: House) -> None:
    house.exporter.result = SpanExportResult.FAILURE
    house.exporter.free.set()
    house.end("a", "b")
    house.provider.shutdown()
    assert house.dropped() == {**NONE, "shutdown": 2}


def test_what_nobody_waits_for_any_longer_is_counted_once(house: House) -> None:
    house.end(*"abc")
    ending = threading.Thread(target=house.provider.shutdown)
    ending.start()
    assert house.exporter.busy.wait(30)
    house.queue.give_up()
    assert house.dropped() == {**NONE, "shutdown": 3}
    house.exporter.result = SpanExportResult.FAILURE
    house.exporter.free.set()
    ending.join()
    assert house.dropped() == {**NONE, "shutdown": 3}


def test_a_span_that_is_not_sampled_is_none() -> None:
    house = House(Slow(), sampler=ALWAYS_OFF)
    house.end("a")
    house.queue.on_end(ReadableSpan("without a context"))
    house.provider.shutdown()
    assert (house.exporter.taken, house.dropped()) == ([], NONE)


def test_threads_together_lose_and_gain_no_span() -> None:
    house = House(Slow())
    house.exporter.free.set()
    threads = [threading.Thread(target=house.end, args=[str(number)] * 200) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    house.provider.shutdown()
    assert len(house.exporter.taken) + sum(house.dropped().values()) == 1600


@pytest.mark.usefixtures("exporter")
def test_a_worker_that_ends_without_its_collector_counts_what_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Slow()
    monkeypatch.setattr(tracing, "make_exporter", lambda *_: stuck)
    installed: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", installed.append)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: installed[-1])
    monkeypatch.setattr(registry(), "exemplar_source", None)
    name, labels = "baliblissed_spans_dropped_total", {"reason": "shutdown"}
    provider = tracing.configure(
        exporter="otlp", endpoint=None, ratio=1.0, service="bali", version="1", environment="test"
    )
    before = registry().get_sample_value(name, labels) or 0
    for _ in range(5):
        provider.get_tracer("test").start_span("x").end()
    assert tracing.shutdown(0.05) is False
    assert registry().get_sample_value(name, labels) == before + 5
    stuck.free.set()


def test_what_ends_once_the_queue_is_given_up_is_counted(house: House) -> None:
    house.queue.give_up()
    house.end("late")
    assert house.dropped() == {**NONE, "shutdown": 1}
