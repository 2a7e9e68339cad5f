"""Process metrics of a worker, labelled with its slot."""

import asyncio
import gc
import os
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.monitoring.metrics import process
from app.monitoring.metrics.catalogue import Catalogue, build_catalogue
from app.monitoring.metrics.process import ProcessMetrics
from app.monitoring.multiprocess import values


@pytest.fixture
def own() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(own: CollectorRegistry) -> Catalogue:
    return build_catalogue(own)


@pytest.fixture
def slot_restored() -> Iterator[None]:
    yield
    process.set_worker_slot(0)


def test_the_figures_are_those_of_this_process(own: CollectorRegistry, metrics: Catalogue) -> None:
    ProcessMetrics("3").collect(metrics)
    here = psutil.Process()
    labels = {"worker": "3"}
    resident = own.get_sample_value("process_resident_memory_bytes", labels)
    assert resident == pytest.approx(here.memory_info().rss, rel=0.2)
    assert own.get_sample_value("process_open_fds", labels) == pytest.approx(here.num_fds(), abs=3)
    assert own.get_sample_value("process_start_time_seconds", labels) == here.create_time()
    assert own.get_sample_value("process_cpu_seconds_total", labels) == pytest.approx(
        sum(here.cpu_times()[:2]), rel=0.1
    )


def test_counters_grow_by_what_has_come_since(own: CollectorRegistry, metrics: Catalogue) -> None:
    figures = ProcessMetrics("0")
    figures.collect(metrics)
    labels = {"worker": "0", "generation": "2"}
    before = own.get_sample_value("python_gc_collections_total", labels)
    assert before is not None
    assert before <= 1, "what was before is another process's"
    gc.collect()
    figures.collect(metrics)
    figures.collect(metrics)
    grown = own.get_sample_value("python_gc_collections_total", labels)
    assert grown is not None
    assert grown >= before + 1


def test_a_successor_in_the_same_slot_adds_to_its_predecessor(own: CollectorRegistry, metrics: Catalogue) -> None:
    labels = {"worker": "0"}
    ProcessMetrics("0").collect(metrics)
    first = own.get_sample_value("process_cpu_seconds_total", labels)
    ProcessMetrics("0").collect(metrics)
    second = own.get_sample_value("process_cpu_seconds_total", labels)
    assert first is not None
    assert second is not None
    assert second >= 2 * first


@pytest.mark.usefixtures("slot_restored")
async def test_a_proc_that_is_closed_costs_its_figures_only(
    metrics: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_self: ProcessMetrics, _metrics: Catalogue) -> None:
        raise psutil.AccessDenied(os.getpid())

    monkeypatch.setattr(ProcessMetrics, "collect", closed)
    with capture_logs() as lines:
        await asyncio.wait_for(process.watch(metrics), 5)
    assert [line["event"] for line in lines] == ["process_figures_missing"]


@pytest.mark.usefixtures("slot_restored")
def test_the_slot_is_the_one_set_for_the_worker() -> None:
    process.set_worker_slot(7)
    assert process.worker_slot() == "7"


def test_series_that_found_no_room_are_counted_and_said_once(
    own: CollectorRegistry, metrics: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, figures, counted = SimpleNamespace(refused=0, denied=dict), ProcessMetrics("3"), []
    monkeypatch.setattr(values, "process", lambda: here)
    with capture_logs() as lines:
        for refused in (0, 2, 2, 5):
            here.refused = refused
            figures.collect(metrics)
            counted.append(own.get_sample_value("baliblissed_metrics_series_lost_total"))
    assert counted == [0, 2, 2, 5]
    assert [(line["event"], line["slot"], line["series"]) for line in lines] == [
        ("series_lost", "3", 2),
        ("series_lost", "3", 3),
    ]


def test_what_a_process_refuses_to_write_is_counted_and_said_once_a_metric_and_reason(
    own: CollectorRegistry, metrics: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, figures = values.Process(), ProcessMetrics("3")
    monkeypatch.setattr(values, "process", lambda: here)
    with capture_logs() as lines:
        for reason in ("name_in_use", "key_too_long", "name_in_use", "name_in_use"):
            here.deny("jobs", reason)
            figures.collect(metrics)
    assert [(line["event"], line["metric"], line["reason"]) for line in lines] == [
        ("metric_write_refused", "jobs", "name_in_use"),
        ("metric_write_refused", "jobs", "key_too_long"),
    ]
    counted = {
        reason: own.get_sample_value("baliblissed_metrics_writes_refused_total", {"metric": "jobs", "reason": reason})
        for reason in ("name_in_use", "key_too_long")
    }
    assert counted == {"name_in_use": 3, "key_too_long": 1}
