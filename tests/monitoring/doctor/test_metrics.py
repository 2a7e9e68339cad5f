"""Findings about metrics: made too early, of a kind that is lost, or hidden."""

import os
import subprocess
import sys

import pytest

from tests.monitoring.doctor.conftest import DIRECTORY, PLAIN, ROOT, Doctor, Project

COUNTER = "from prometheus_client import Counter\nORDERS = Counter('orders', 'Orders.')\n"


def early(project: Project, source: str = COUNTER) -> None:
    """Have the package that holds ours declare metrics in its __init__.py, as a package with a copy of it may."""
    project.write("own/__init__.py", source)
    (project.path / "own" / "monitoring").symlink_to(DIRECTORY)
    project.write("own/main.py", PLAIN)


def test_a_metric_made_before_the_directory_was_set_is_named_with_its_module(project: Project) -> None:
    early(project)
    outcome = project.run("doctor", "own.main:app", package="own.monitoring", root=project.path)
    line = outcome.only("single-process-metric")
    assert "orders (own.ORDERS)" in line
    assert "PROMETHEUS_MULTIPROC_DIR" in line
    assert outcome.status == 1


def test_a_metric_made_before_the_package_was_imported_is_named_with_its_module(project: Project) -> None:
    early(project)
    (project.path / "metrics").mkdir()
    line = project.run(
        "doctor",
        "own.main:app",
        package="own.monitoring",
        root=project.path,
        environ={"PROMETHEUS_MULTIPROC_DIR": str(project.path / "metrics")},
    ).only("early-metric")
    assert "orders (own.ORDERS)" in line
    assert "before importing own, also in an __init__.py" in line


def test_a_metric_made_before_start_worker_is_named_with_the_call_that_was_late(project: Project) -> None:
    (project.path / "metrics").mkdir()
    project.write("orders.py", COUNTER)
    project.write(
        "shop.py",
        """
        from app.monitoring import Observability
        from fastapi import FastAPI
        import orders
        Observability("shop").start_worker()
        from app.monitoring.doctor import examine
        print(*examine(FastAPI()), sep="\\n")
        """,
    )
    done = subprocess.run(
        [sys.executable, "shop.py"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(project.path / "metrics")},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("error early-metric: made before this package was set up: orders (orders.ORDERS);")
    assert "call start_worker(), or Observability(...).gunicorn() in gunicorn_conf.py, before importing orders" in line


def test_early_metrics_of_every_kind_are_found(project: Project) -> None:
    early(
        project,
        """
        from prometheus_client import Counter, Gauge, Histogram, Summary
        for kind in (Counter, Gauge, Summary, Histogram):
            mode = {"multiprocess_mode": "livesum"} if kind is Gauge else {}
            kind(f"a_{kind.__name__}", "A", ("label",), **mode).labels("x")
        """,
    )
    outcome = project.run("doctor", "own.main:app", package="own.monitoring", root=project.path)
    assert "a_Counter, a_Gauge, a_Histogram, a_Summary;" in outcome.only("single-process-metric")


def test_an_early_metric_without_label_sets_makes_its_values_later(project: Project) -> None:
    early(project, "from prometheus_client import Counter\nORDERS = Counter('orders', 'Orders.', ('kind',))\n")
    outcome = project.run("doctor", "own.main:app", package="own.monitoring", root=project.path)
    assert outcome.lines == ["0 findings"]


def test_a_metric_outside_every_registry_is_found(project: Project) -> None:
    early(project, "from prometheus_client import Counter\nORDERS = Counter('orders', 'Orders.', registry=None)\n")
    outcome = project.run("doctor", "own.main:app", package="own.monitoring", root=project.path)
    assert "own.ORDERS" in outcome.only("single-process-metric")


def test_a_metric_is_named_with_the_module_that_declares_it(doctor: Doctor, project: Project) -> None:
    project.write("first.py", "from second import LOGINS\n")
    project.write("second.py", "from prometheus_client import Counter\nLOGINS = Counter('logins', 'L', ('email',))\n")
    project.write("third.py", "from second import LOGINS\n")
    line = doctor(f"import first, third\n{PLAIN}").only("forbidden-label")
    assert "logins (second.LOGINS)" in line


def test_many_early_metrics_are_one_line(project: Project) -> None:
    early(project, "from prometheus_client import Counter\nfor n in range(9): Counter(f'early_{n}', 'E')\n")
    outcome = project.run("doctor", "own.main:app", package="own.monitoring", root=project.path)
    assert "early_4 and 4 more" in outcome.only("single-process-metric")


def test_another_value_class_is_found(doctor: Doctor) -> None:
    outcome = doctor(
        PLAIN
        + """
from prometheus_client import values
values.ValueClass = values.MutexValue
"""
    )
    assert "MutexValue" in outcome.only("value-class")
    assert outcome.status == 1


def test_a_value_that_does_not_arrive_in_the_directory_is_found(doctor: Doctor, project: Project) -> None:
    (project.path / "other").mkdir()
    outcome = doctor(
        PLAIN
        + """
import os
from prometheus_client import Counter
Counter("orders", "Orders.").inc()  # this process's files are in the first directory from now on
os.environ["PROMETHEUS_MULTIPROC_DIR"] = "other"
"""
    )
    assert "'other'" in outcome.only("value-lost")


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("Info", "METRIC = Info('build', 'B')\nMETRIC.info({'version': '1'})"),
        ("Enum", "METRIC = Enum('mode', 'M', states=['on', 'off'])"),
    ],
)
def test_info_and_enum_metrics_are_found(doctor: Doctor, kind: str, declared: str) -> None:
    line = doctor(f"{PLAIN}from prometheus_client import {kind}\n{declared}\n").only("lost-kind")
    assert line.startswith(f"warning lost-kind: {kind} metrics: ")
    assert "(shop.METRIC)" in line


def test_a_custom_collector_is_found(doctor: Doctor) -> None:
    line = doctor(
        PLAIN
        + """
from prometheus_client import REGISTRY
class Pool:
    def collect(self):
        return []
REGISTRY.register(Pool())
"""
    ).only("lost-collector")
    assert "shop.Pool" in line
    assert "Observability.gunicorn(collectors=...)" in line
    assert "--collect" in line


def test_a_metric_with_a_collect_of_its_own_is_found(doctor: Doctor) -> None:
    line = doctor(
        PLAIN
        + """
from prometheus_client import Gauge
class Pool(Gauge):
    def collect(self):
        return []
SIZE = Pool("pool_size", "P", multiprocess_mode="max")
"""
    ).only("lost-collector")
    assert "pool_size (shop.SIZE)" in line


@pytest.mark.parametrize(
    "target",
    [
        "Gauge('size', 'S', multiprocess_mode='max')",
        "Gauge('size', 'S', ('pool',), multiprocess_mode='max').labels('x')",
    ],
)
def test_a_gauge_with_a_function_is_found(doctor: Doctor, target: str) -> None:
    outcome = doctor(f"{PLAIN}from prometheus_client import Gauge\n{target}.set_function(lambda: 1)\n")
    assert "size" in outcome.only("value-function")
    assert outcome.status == 1


def test_a_forbidden_label_is_found(doctor: Doctor) -> None:
    line = doctor(f"{PLAIN}from prometheus_client import Counter\nC = Counter('logins', 'L', ('kind', 'userId'))\n")
    assert "logins (shop.C) has the label userId;" in line.only("forbidden-label")


@pytest.mark.parametrize(
    "arguments", ["", ", multiprocess_mode='liveall'", ", registry=Observability.current().registry"]
)
def test_a_gauge_with_a_series_for_each_process_is_found(doctor: Doctor, arguments: str) -> None:
    source = "from prometheus_client import Gauge\nfrom app.monitoring import Observability\n"
    outcome = doctor(f"{PLAIN}{source}SIZE = Gauge('size', 'S'{arguments})\n")
    assert outcome.only("gauge-by-process").startswith("warning gauge-by-process: gauges of the mode all, ")
    assert "size (shop.SIZE)" in outcome.lines[0]


def test_gauges_over_several_processes_and_gauges_that_no_scrape_shows_pass(doctor: Doctor) -> None:
    outcome = doctor(
        PLAIN
        + """
from app.monitoring import Observability
from prometheus_client import CollectorRegistry, Gauge
modes = ("sum", "livesum", "max", "livemax", "min", "livemin", "mostrecent", "livemostrecent")
MADE = [Gauge(f"size_{mode}", "S", multiprocess_mode=mode) for mode in modes]
CARTS = Observability.current().gauge("carts", "C")
OWN = Gauge("own", "O", registry=CollectorRegistry())
"""
    )
    assert outcome.lines == ["0 findings"], outcome.errors
