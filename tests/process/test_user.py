"""gunicorn's `--user` and `--group`: root starts the service, and its workers run as somebody else."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.monitoring.multiprocess.directory import DirectoryError, claim
from app.monitoring.server.user import WorkerUser
from tests.process.replacement import configured, reload, wait_for_workers
from tests.process.service import ROOT, Service, gone, service, wait_for

USER, GROUP = 54_321, 54_322
SETTINGS = f"user, group = {{user}}, {GROUP}\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start workers of another user")


def interpreter() -> str:
    """Return an interpreter of this version that every user can execute; skip the test if there is none."""
    candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    for candidate in candidates:
        command = [candidate, "-c", "import fastapi, uvloop, app.monitoring"]
        try:
            subprocess.run(command, check=True, user=USER, capture_output=True, cwd="/", env=search_path(), timeout=60)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip(f"no Python can be executed by all users: neither {' nor '.join(candidates)}")


def search_path() -> dict[str, str]:
    """Return variables with which any interpreter of this version has the libraries of this one."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), *[entry for entry in sys.path if "site-packages" in entry]])}


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def running(open_path: Path) -> Iterator[Service]:
    """A service of root, whose workers are another user's."""
    launcher = ("sh", "-c", f'shift; exec {interpreter()} -m gunicorn "$@"', "sh")
    configuration = configured(open_path, more=SETTINGS.format(user=USER))
    # The older interpreter may lack a library of theirs.
    environment = {"OTEL_SDK_DISABLED": "true", **search_path()}
    with service(open_path, None, configuration, "http", launcher, **environment) as started:
        wait_for_workers(started)
        yield started


@as_root
def test_the_metrics_directory_is_the_workers(running: Service) -> None:
    exporter = running.exporter()
    assert exporter is not None
    assert {process.uids().effective for process in [*running.workers(), exporter]} == {USER}
    assert {process.gids().effective for process in [*running.workers(), exporter]} == {GROUP}
    assert exporter.uids().saved == USER
    directory = running.metrics_directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in [directory, *directory.rglob("*")]} == {USER}
    for _ in range(10):
        assert running.get("/pid").status_code == 200
    assert running.total("http_requests_total", handler="/pid") == 10
    assert running.total("shop_workers", state="live") == 2
    assert running.total("shop_worker_boots_total") == 2


@as_root
def test_workers_of_another_user_are_replaced(running: Service) -> None:
    running.get("/pid")
    reload(running)
    first, second = running.workers()
    first.terminate()
    wait_for(lambda: gone([first]) and len(running.workers()) == 2, "its successor")
    second.kill()
    wait_for(lambda: gone([second]) and len(running.workers()) == 2, "its successor")
    wait_for(lambda: running.total("shop_worker_exits_total") == 4, "the counts")
    assert running.total("http_requests_total", handler="/pid") == 1
    exporter = running.exporter()
    assert exporter is not None
    exporter.kill()
    wait_for(lambda: gone([exporter]) and running.exporter() is not None, "another exporter")
    wait_for(lambda: psutil.Process(running.exporter().pid).uids().effective == USER, "its user")  # type: ignore[union-attr]
    assert running.stop() == 0
    assert "Traceback" not in running.output, running.output
    assert running.left("shop_worker_exits_total") == 6


@as_root
def test_a_reload_with_another_user_is_refused(running: Service, open_path: Path) -> None:
    before = running.workers()
    # Of another length: Python takes a file of the same second and size for the compiled one.
    configured(open_path, more=SETTINGS.format(user=USER * 10))
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: "another user needs a restart" in running.output, "the line")
    assert running.workers() == before
    assert running.answers("/health/ready")
    assert running.stop() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may switch to any user")
def test_only_root_starts_workers_of_another_user(tmp_path: Path) -> None:
    started = Service(tmp_path, {}, configuration=configured(tmp_path, more=SETTINGS.format(user=USER)))
    assert started.process.wait(30) == 1
    assert f"user={USER}: only root can start workers of another user; want {os.geteuid()}" in started.output
    assert "Traceback" not in started.output


@as_root
def test_a_directory_of_an_earlier_service_of_root_goes_to_the_user(open_path: Path) -> None:
    path = open_path / "metrics"
    claim(path).close()
    user = WorkerUser(USER, GROUP)
    user.make_directory(path)
    assert {entry.stat().st_uid for entry in [path, *path.iterdir()]} == {USER}
    user.make_directory(path)


@as_root
def test_a_directory_with_files_of_others_is_left_alone(open_path: Path) -> None:
    path = open_path / "home"
    path.mkdir(mode=0o755)
    (path / "file").write_text("")
    with pytest.raises(DirectoryError, match=f"want a directory that user {USER} can write to, or an empty one"):
        WorkerUser(USER, GROUP).make_directory(path)
    assert path.stat().st_uid == (path / "file").stat().st_uid == 0


@as_root
def test_a_link_that_the_user_has_put_into_the_directory_is_not_followed_with_the_rights_of_root(
    open_path: Path,
) -> None:
    path, target = open_path / "metrics", open_path / "target"
    target.write_text("of root")
    user = WorkerUser(USER, GROUP)
    user.make_directory(path)
    (path / "epoch.new").symlink_to(target)
    (path / "lock").symlink_to(target)
    with pytest.raises(DirectoryError, match="Permission denied"), user.acting():
        claim(path)
    (path / "lock").unlink()
    with user.acting():
        claim(path).close()
    assert target.read_text() == "of root"
    assert os.geteuid() == 0
