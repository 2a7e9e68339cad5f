"""The command: its lines, its exit status, and what it leaves behind."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.monitoring.doctor.conftest import DIRECTORY, PLAIN, ROOT, Doctor, Outcome, Project
from tests.process.service import wait_for
from tests.processes import started

DEFECT = PLAIN + "from prometheus_client import Counter\nCounter('logins', 'L', ('user_id',))\n"


@pytest.fixture
def doctor(project: Project) -> Doctor:
    """Return `doctor(source, **environ)`, which runs the command in a process of its own."""

    def call(source: str = PLAIN, **environ: str) -> Outcome:
        project.write("shop.py", source)
        return project.run("doctor", "shop:app", environ=environ)

    return call


def test_an_application_without_findings_passes(doctor: Doctor) -> None:
    outcome = doctor()
    assert outcome.lines == ["0 findings"], outcome.errors
    assert outcome.status == 0


def test_an_error_is_one_line_and_status_1(doctor: Doctor) -> None:
    outcome = doctor(DEFECT)
    assert outcome.only("forbidden-label").startswith("error forbidden-label: ")
    assert outcome.status == 1


def test_a_warning_is_one_line_and_status_0(doctor: Doctor) -> None:
    outcome = doctor(HOST="0.0.0.0")  # noqa: S104
    assert outcome.only("untrusted-proxies").startswith("warning untrusted-proxies: ")
    assert outcome.status == 0


def test_errors_come_first(doctor: Doctor) -> None:
    outcome = doctor(DEFECT, HOST="0.0.0.0")  # noqa: S104
    assert [line.split()[0] for line in outcome.lines] == ["error", "warning"]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nowhere:app", "ModuleNotFoundError: No module named 'nowhere'"),
        ("shop:other", "AttributeError: module 'shop' has no attribute 'other'"),
        ("shop:fail()", "ValueError: two lines"),
        ("shop:leave()", "SystemExit: no database"),
        ("shop:1+1", "want module:app or module:create_app()"),
        (":app", "ValueError: Empty module name"),
        ("shop:crash()", "its process ended with status -9"),
    ],
)
def test_an_application_that_cannot_be_imported_is_one_line_and_status_2(
    project: Project, reference: str, reason: str
) -> None:
    project.write(
        "shop.py",
        """
        import os, sys

        def fail():
            raise ValueError("two\\nlines")

        def leave():
            sys.exit("no database")

        def crash():
            os.kill(os.getpid(), 9)
        """,
    )
    outcome = project.run("doctor", reference)
    assert outcome.status == 2
    assert outcome.lines == []
    (line,) = outcome.errors.splitlines()
    assert reason in line
    assert reference in line


def test_a_factory_gets_the_arguments_of_the_reference(project: Project) -> None:
    project.write(
        "shop.py",
        """
        from fastapi import FastAPI

        def create(path, *, mounted):
            app = FastAPI()
            app.add_api_route(path, create)
            return app if mounted else None
        """,
    )
    assert "/metrics" in project.run("doctor", "shop:create('/metrics', mounted=True)").only("shadowed-path")


def test_prints_of_the_application_are_no_findings(doctor: Doctor) -> None:
    outcome = doctor(PLAIN + "print('starting')\n")
    assert outcome.lines == ["0 findings"]
    assert outcome.errors == "starting\n"


def test_nothing_is_left_behind(doctor: Doctor, project: Project) -> None:
    outcome = doctor(
        PLAIN
        + """
import subprocess, sys, threading
from pathlib import Path
from prometheus_client import Counter
Counter("orders", "Orders.").inc()
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
Path("child").write_text(str(child.pid))
threading.Thread(target=threading.Event().wait).start()
"""
    )
    assert outcome.lines == ["0 findings"]
    assert sorted(file.name for file in project.path.iterdir()) == ["child", "scratch", "shop.py"]
    assert list((project.path / "scratch").iterdir()) == []
    child = int((project.path / "child").read_text())
    wait_for(lambda: not _runs(child), "the end of the application's child")


def test_a_stopped_command_leaves_nothing_behind(project: Project) -> None:
    project.write(
        "shop.py", "import os, signal\nfrom pathlib import Path\nPath('importing').write_text('')\nsignal.pause()\n"
    )
    with started(
        [sys.executable, "-m", "app.monitoring", "doctor", "shop:app"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(project.path / "scratch")},
    ) as process:
        wait_for((project.path / "importing").exists, "the import")
        inspection = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert inspection
    assert not any(one.is_running() for one in inspection)
    assert list((project.path / "scratch").iterdir()) == []


def test_the_directory_of_a_running_service_is_left_alone(doctor: Doctor, project: Project) -> None:
    own = project.path / "own"
    own.mkdir()
    project.write("early/__init__.py", "from prometheus_client import Counter\nCounter('orders', 'Orders.').inc()\n")
    outcome = doctor("import early\n" + PLAIN, PROMETHEUS_MULTIPROC_DIR=str(own))
    assert outcome.lines == ["0 findings"]
    assert list(own.iterdir()) == []


def test_the_command_runs_under_another_name_of_the_package(project: Project, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "prefork_observability").symlink_to(DIRECTORY)
    project.write("shop.py", DEFECT)
    outcome = project.run("doctor", "shop:app", package="prefork_observability", root=site)
    outcome.only("forbidden-label")


def test_the_command_wants_an_application(project: Project) -> None:
    outcome = project.run("doctor")
    assert outcome.status == 2
    assert "application" in outcome.errors


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
