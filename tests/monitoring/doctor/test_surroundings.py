"""Findings about configuration, metrics directory and versions."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from app.monitoring.doctor import Finding, Situation, versions
from app.monitoring.doctor.directory import file_system, shared_directory, unfit_directory
from app.monitoring.doctor.examination import examine_surroundings
from app.monitoring.multiprocess.ownership import planted_entry
from app.monitoring.options import Options
from tests.monitoring.doctor.conftest import Doctor, Project

QUIET = {"tracing_disabled": True}


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def examined(**situation: object) -> list[str]:
    return codes(examine_surroundings(Situation(**{**QUIET, **situation})))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:80", ":8000", "10.0.0.7:8000", "shop.internal:80", "*:1"])
def test_an_address_for_others_with_no_proxy_trusted_is_found(address: str) -> None:
    assert examined(bind=(address,)) == ["untrusted-proxies"]
    assert examined(bind=("127.0.0.1:8000", address), forwarded_allow_ips="127.0.0.1, ::1") == ["untrusted-proxies"]
    assert examined(bind=(address,), forwarded_allow_ips="10.0.0.0/8") == []
    assert examined(bind=(address,), forwarded_allow_ips="*") == []


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "[::1]:80", "localhost:80", "fd://3"])
def test_an_address_of_this_machine_is_none(address: str) -> None:
    assert examined(bind=(address,)) == []


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"OTEL_SDK_DISABLED": ""}, []),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "otlp"}, ["tracing-without-endpoint"]),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, ["tracing-without-endpoint"]),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_SAMPLER": "always_on"}, ["tracing-without-endpoint"]),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_TRACES_SAMPLER": "always_off"}, []),
        (
            {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_SAMPLER_ARG": "1", "OTEL_TRACES_EXPORTER": "none"},
            [],
        ),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "console"}, []),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, []),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, ["tracing-disabled"]),
        ({"OTEL_SDK_DISABLED": "", "TRACING": "none", "OTEL_TRACES_EXPORTER": "otlp"}, []),
        ({"OTEL_SDK_DISABLED": "", "TRACING": "instrumentation"}, ["tracing-without-endpoint"]),
        (
            {"OTEL_SDK_DISABLED": "", "TRACING": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
            ["tracing-disabled"],
        ),
    ],
)
def test_spans_for_nobody_and_a_collector_without_spans_are_found(environ: dict[str, str], found: list[str]) -> None:
    situation = Situation.from_environment({"OTEL_SDK_DISABLED": "true", **environ})
    assert codes(examine_surroundings(situation)) == found


def test_the_master_takes_the_options_of_the_service(tmp_path: Path) -> None:
    options = Options.read(
        {
            "host": "0.0.0.0",  # noqa: S104
            "workers": 3,
            "tracing_disabled": True,
            "otlp_endpoint": "http://collector:4317",
            "metrics_directory": tmp_path,
        },
        environment={},
    )
    situation = Situation.of_options(options, [options.bind])
    assert (situation.workers, situation.directory) == (3, tmp_path)
    assert codes(examine_surroundings(situation)) == ["untrusted-proxies", "tracing-disabled"]
    assert codes(examine_surroundings(Situation.of_options(options, ["127.0.0.1:80"]))) == ["tracing-disabled"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"sample_ratio": 1.0}, ["tracing-without-endpoint"]),
        ({"sample_ratio": 0}, []),
        ({"tracing": "layer"}, []),
        ({"tracing": "instrumentation"}, ["tracing-without-endpoint"]),
        ({"tracing": "instrumentation", "traces_exporter": "none"}, []),
        ({"tracing": "none", "sample_ratio": 1.0}, []),
        ({"sample_ratio": 1.0, "otlp_endpoint": "http://collector:4317"}, []),
    ],
)
def test_arguments_that_ask_for_spans_of_nobody_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, object], found: list[str]
) -> None:
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    options = Options.read({"metrics_directory": tmp_path, **given}, environment={})
    assert codes(examine_surroundings(Situation.of_options(options, [options.bind]))) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"kill_timeout": 26}, []),
        ({"kill_timeout": 25}, ["kill-timeout"]),
        ({"kill_timeout": 25, "graceful_timeout": 24}, []),
        ({"kill_timeout": 10.6, "graceful_timeout": 10}, ["kill-timeout"]),
        ({"kill_timeout": 10.7, "graceful_timeout": 10}, []),
        ({"otlp_timeout": 25}, []),
        ({"otlp_timeout": 26}, ["export-timeout"]),
        ({"otlp_timeout": 26, "otlp_endpoint": None}, []),
    ],
)
def test_times_that_do_not_fit_the_graceful_timeout_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, object], found: list[str]
) -> None:
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    usual = {"metrics_directory": tmp_path, "otlp_endpoint": "http://collector:4317"}
    options = Options.read({**usual, **given}, environment={})
    assert codes(examine_surroundings(Situation.of_options(options, [options.bind]))) == found


def test_the_command_compares_the_variables_of_a_stop(doctor: Doctor) -> None:
    assert doctor(KILL_TIMEOUT="30").lines == ["0 findings"]
    line = doctor(KILL_TIMEOUT="30", GRACEFUL_TIMEOUT="31").only("kill-timeout")
    assert "KILL_TIMEOUT=30 is not above 31, the longest stop with GRACEFUL_TIMEOUT=31" in line
    environ = {"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
    doctor(OTEL_EXPORTER_OTLP_TIMEOUT="30", **environ).only("export-timeout")


def test_a_unix_socket_is_found_unless_every_peer_is_trusted() -> None:
    for trusted in (None, "127.0.0.1", "10.0.0.0/8", "*, 10.0.0.1"):
        found = examine_surroundings(
            Situation(bind=("unix:/run/shop.sock",), forwarded_allow_ips=trusted, tracing_disabled=True)
        )
        (finding,) = found
        assert (finding.code, finding.severity) == ("untrusted-proxies", "warning")
        assert "unix:/run/shop.sock" in finding.what
        assert finding.instead.startswith("FORWARDED_ALLOW_IPS=*, ")
    assert examined(bind=("unix:/run/shop.sock",), forwarded_allow_ips="*") == []


def test_the_command_reads_the_configuration_of_the_environment(doctor: Doctor) -> None:
    doctor(OTEL_SDK_DISABLED="false", OTEL_TRACES_EXPORTER="otlp").only("tracing-without-endpoint")


def test_several_workers_without_a_directory_are_found() -> None:
    assert examined(workers=4) == ["directory-unset"]
    assert examined(workers=1) == []


def test_a_directory_that_cannot_be_written_to_is_found(doctor: Doctor, project: Project) -> None:
    (project.path / "file").write_text("")
    outcome = doctor(PROMETHEUS_MULTIPROC_DIR=str(project.path / "file" / "metrics"))
    outcome.only("directory-not-writable")
    assert outcome.status == 1
    assert examined(directory=Path("/proc/self")) == ["directory-not-writable"]


def test_a_directory_that_all_users_may_write_in_is_found_at_the_start_and_by_the_command(
    doctor: Doctor, project: Project
) -> None:
    metrics = project.path / "metrics"
    metrics.mkdir()
    metrics.chmod(0o777)
    assert examined(directory=metrics) == ["directory-open-to-others"]
    assert repr(str(metrics)) in doctor(PROMETHEUS_MULTIPROC_DIR=str(metrics)).only("directory-open-to-others")


def test_a_server_that_evaluates_proxy_headers_itself_is_found() -> None:
    assert examined(peers_rewritten=True) == ["proxy-headers"]


@pytest.mark.parametrize("path", ["/proc/x", "/sys/x"])
def test_a_directory_of_the_kernels_own_objects_cannot_be_written_to(path: str) -> None:
    (finding,) = unfit_directory(Situation(directory=Path(path)))
    assert (finding.code, finding.severity) == ("directory-not-writable", "error")
    assert finding.what.startswith(f"PROMETHEUS_MULTIPROC_DIR='{path}' cannot be written to (file system ")


def test_a_file_system_that_counts_no_blocks_is_not_taken_for_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = list(os.statvfs(tmp_path))
    none[2:5] = [0, 0, 0]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(none))
    assert list(unfit_directory(Situation(directory=tmp_path))) == []


def test_a_directory_that_is_to_be_made_is_none(tmp_path: Path) -> None:
    assert examined(directory=tmp_path / "not" / "yet") == []
    assert not (tmp_path / "not").exists()


def test_a_directory_on_a_network_file_system_is_found(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    # The kernel writes a space as \040; the file system mounted last hides the others at its place.
    place = str(tmp_path / "a b").replace(" ", r"\040")
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:40 / {place} rw - tmpfs tmpfs rw\n"
        f"31 22 0:41 / {place} rw,relatime shared:2 master:1 - nfs4 server:/export rw\n"
    )
    (tmp_path / "a b" / "metrics").mkdir(parents=True)
    (finding,) = unfit_directory(Situation(directory=tmp_path / "a b" / "metrics"), mounts)
    assert finding.code == "directory-on-network"
    assert "nfs4" in finding.what
    assert list(unfit_directory(Situation(directory=tmp_path), mounts)) == []


def test_the_kernel_names_the_file_system_of_a_directory() -> None:
    assert file_system(Path("/proc/self")) == "proc"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 256 KiB in memory."""
    path = tmp_path / "small"
    path.mkdir()
    mount, command = shutil.which("mount"), ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    if mount is None or subprocess.run([mount, *command], check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root and its capabilities")
    yield path
    subprocess.run(["umount", "-l", path], check=True)  # noqa: S607 -- found beside mount


@pytest.mark.parametrize(
    ("mode", "user", "group"), [(0o777, 0, 0), (0o2777, 0, 10001), (0o1777, 0, 0), (0o777, 999, 999)]
)
def test_a_volume_of_a_container_may_be_open_to_all_users(small_disk: Path, mode: int, user: int, group: int) -> None:
    # An emptyDir without and with fsGroup, an engine's tmpfs, a tmpfs with an owner.
    small_disk.parent.chmod(0o1777)
    os.chown(small_disk, user, group)
    small_disk.chmod(mode)
    assert list(shared_directory(Situation(directory=small_disk))) == []
    assert planted_entry(small_disk) is None


def test_a_directory_that_is_nearly_full_is_found(small_disk: Path) -> None:
    assert examined(directory=small_disk) == ["directory-nearly-full"]


def test_a_library_outside_its_bounds_is_found() -> None:
    installed = metadata.version("prometheus-client")
    (finding,) = versions.untested_versions(
        [
            f"prometheus-client>={installed}",
            "structlog>=26,<99; python_version > '3'",
            "no-such-library>=1,<2",
            f"prometheus-client<{installed}",
            "uvicorn[standard]>=0.1",
        ]
    )
    assert finding.code == "untested-version"
    assert finding.severity == "warning"
    assert finding.what == f"prometheus-client {installed} is installed"
    assert finding.instead == f"prometheus-client<{installed}"


def test_bounds_come_from_the_project_file_beside_the_package(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["structlog>=1,<2"]\n[project.optional-dependencies]\nredis = ["redis>=1,<2"]\n'
    )
    found = list(versions.untested_versions(versions.requirements(project)))
    assert [finding.instead for finding in found] == ["structlog<2,>=1", "redis<2,>=1"]


def test_bounds_come_from_the_installed_distribution_where_there_is_no_project_file(project: Project) -> None:
    site = project.path / "site"
    information = site / "prefork_observability-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: prefork-observability\nVersion: 1.0\nRequires-Dist: structlog<2,>=1\n"
        "Provides-Extra: redis\nRequires-Dist: redis<2,>=1; extra == 'redis'\n"
    )
    copied(site / "prefork_observability")
    project.write("shop.py", "from fastapi import FastAPI\napp = FastAPI()\n")
    outcome = project.run("doctor", "shop:app", package="prefork_observability", root=site)
    assert [line.split(": ")[0] for line in outcome.lines] == ["warning untested-version"] * 2


def test_a_copy_without_bounds_has_no_findings_about_versions(project: Project) -> None:
    copied(project.path / "prefork_observability")
    project.write("shop.py", "from fastapi import FastAPI\napp = FastAPI()\n")
    outcome = project.run("doctor", "shop:app", package="prefork_observability", root=project.path)
    assert outcome.lines == ["0 findings"]


def copied(path: Path) -> None:
    """Copy the package as a wheel has it, without its project file."""
    package = Path(versions.__file__).resolve().parent.parent
    shutil.copytree(package, path, ignore=shutil.ignore_patterns("pyproject.toml", "__pycache__"))
