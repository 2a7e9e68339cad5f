"""tests/programs.sh unpacks Debian's packages into an empty directory; programs on PATH are left at that."""

import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT

# `download` leaves a file for each package, with the version in its name as apt has it.
APT = """#!/bin/sh
test "$1" = download || exit 1
shift 4
for package; do : >"${package}_1.0_amd64.deb"; done
"""
# The version is in the name of a library's package.
APT_CACHE = """#!/bin/sh
test "$*" = "depends pgbouncer" || exit 1
printf 'pgbouncer\\n  Depends: %s\\n' libc6 libevent-2.1-7 libc-ares2 libssl3
"""
# Debian has nginx and PgBouncer where the commands of root are, and Prometheus' programs where those of users are.
DPKG = """#!/bin/sh
case "$2" in
nginx_*) files=usr/sbin/nginx;;
pgbouncer_*) files=usr/sbin/pgbouncer;;
lib*) files=usr/lib/x86_64-linux-gnu/${2%%_*};;
prometheus_*) files="usr/bin/prometheus usr/bin/promtool";;
prometheus-alertmanager_*) files="usr/bin/prometheus-alertmanager usr/bin/amtool";;
esac
for file in $files; do mkdir -p "$(dirname "$file")"; printf '#!/bin/sh\\n' >"$file"; chmod +x "$file"; done
mkdir -p usr/share
"""
TOOLS = "bash", "chmod", "dirname", "id", "ln", "mkdir", "mount", "sed", "sh", "touch", "unshare"
NAMES = "nginx", "pgbouncer", "prometheus", "promtool", "amtool", "alertmanager"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a directory with the tools of the script, an apt that downloads empty packages, and their files."""
    directory = tmp_path / "path"
    directory.mkdir()
    for name in TOOLS:
        found = next(place for place in (Path("/bin"), Path("/usr/bin")) if (place / name).exists())
        (directory / name).symlink_to(found / name)
    for name, text in (("apt-get", APT), ("apt-cache", APT_CACHE), ("dpkg-deb", DPKG)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory


def unpack(path: Path, into: Path) -> str:
    done = subprocess.run(
        [ROOT / "tests" / "programs.sh", into],
        env={"PATH": str(path)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr


def test_an_empty_directory_gets_all_programs(path: Path, tmp_path: Path) -> None:
    said = unpack(path, tmp_path / "programs")
    assert "nginx" not in said
    assert "pgbouncer" not in said
    present = [name for name in NAMES if (tmp_path / "programs" / "usr" / "bin" / name).exists()]
    # Alertmanager needs a namespace for its files, which not every machine allows; the script says so.
    assert present == [name for name in NAMES if name != "alertmanager" or "no namespace" not in said]


@pytest.mark.parametrize("name", ["nginx", "pgbouncer"])
def test_a_directory_from_before_a_program_gets_it(path: Path, tmp_path: Path, name: str) -> None:
    unpack(path, tmp_path / "programs")
    program = tmp_path / "programs" / "usr" / "bin" / name
    program.unlink()
    assert unpack(path, tmp_path / "programs") == ""
    assert program.exists()


def test_pgbouncer_gets_the_libraries_that_few_machines_have(path: Path, tmp_path: Path) -> None:
    unpack(path, tmp_path / "programs")
    usr = tmp_path / "programs" / "usr"
    libraries = usr / "lib" / "x86_64-linux-gnu"
    assert {file.name for file in libraries.iterdir()} == {"libevent-2.1-7", "libc-ares2"}
    assert f'LD_LIBRARY_PATH="{libraries}" exec "{usr}/sbin/pgbouncer" "$@"' in (usr / "bin" / "pgbouncer").read_text()


def test_without_apt_one_line_says_what_is_missing(path: Path, tmp_path: Path) -> None:
    (path / "apt-get").unlink()
    said = unpack(path, tmp_path / "programs")
    assert said.count("\n") == 1
    assert "nginx or pgbouncer is not on PATH, and there is no apt" in said
