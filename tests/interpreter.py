"""Prepare `.venv` for the interpreter that runs this file: refuse an unusable one, remove an outdated environment.

Make runs it before every command that needs the environment. Standard library and old syntax only, so that an
interpreter that is too old gets as far as the message that says so.
"""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("x86_64", "arm64")}
OLDEST_GLIBC = (2, 28)


def find_version_problem(version: tuple) -> str:  # type: ignore[type-arg] # no tuple[int, ...] before Python 3.9
    """Return why the lock files do not serve this Python version and what to do, or an empty string."""
    if OLDEST <= version[:2] <= NEWEST:
        return ""
    oldest, newest, found = (".".join(map(str, numbers)) for numbers in (OLDEST, NEWEST, version[:3]))
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    other = next(filter(shutil.which, names), names[0])
    return f"Python {oldest} to {newest} is needed, {sys.executable} is {found}: name another with PYTHON={other}"


def find_platform_problem(system: str, machine: str, libc: str, libc_version: str) -> str:
    """Return why the wheels of PostgreSQL and Valkey do not run on this platform and what to do, or an empty string."""
    found = f"{system} on {machine}"
    if machine in MACHINES.get(system, ()):
        if system != "linux":
            return ""
        if libc == "glibc" and tuple(map(int, libc_version.split(".")[:2])) >= OLDEST_GLIBC:
            return ""
        found += f" with {libc or 'another C library than glibc'} {libc_version}".rstrip()
    glibc = ".".join(map(str, OLDEST_GLIBC))
    return (
        f"the PostgreSQL and Valkey wheels need Linux (x86_64 or aarch64, glibc {glibc} or newer) or macOS, this is "
        f"{found}: use a container, or start gunicorn from requirements.lock with DATABASE_URL and REDIS_URL"
    )


def find_module_problem() -> str:
    """Return which package of the system is missing and how to get it, or an empty string."""
    try:
        # Debian has ensurepip in a separate package.
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError as error:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        return (
            f"{sys.executable} has no module {error.name}: apt-get install {package}, or name another with PYTHON=..."
        )
    return ""


def identify(venv: Path) -> str:
    """Return the interpreter's version, ABI, prefix and machine, and the path of `venv`, which its scripts contain."""
    version = "{}.{}".format(*sys.version_info[:2]) + getattr(sys, "abiflags", "")
    return " ".join([sys.implementation.name, version, sys.base_prefix, platform.machine(), str(venv.resolve())])


def find_reason(venv: Path, recorded: list) -> str:  # type: ignore[type-arg]
    """Return why an existing `venv` has to be made again, or an empty string."""
    if not (venv / ".ready").exists():
        return "its set-up was interrupted"
    if not os.access(str(venv / "bin" / "python"), os.X_OK):
        return "its interpreter is gone"
    if recorded[1:] != [identify(venv)]:
        return f"it belongs to another interpreter or place ({' '.join(recorded[1:]) or 'not recorded'})"
    return ""


def keep_record(record: Path, name: str) -> None:
    """Write `name` to `record` and keep its modification time, which make compares: nothing has to be set up again."""
    first, _, rest = record.read_text().partition("\n")
    if first != name:
        times = record.stat()
        record.write_text(f"{name}\n{rest}")
        os.utime(str(record), ns=(times.st_atime_ns, times.st_mtime_ns))


def create_environment(venv: Path) -> None:
    """Make an environment with pip in place of an existing one. If interrupted, it has no stamp and is made again."""
    import venv as builder  # noqa: PLC0415 -- missing on some systems, where find_module_problem says so

    stamp = venv / ".ready"
    if stamp.exists():
        stamp.unlink()
    # The running interpreter may be the one that is removed here; the new environment links to its base.
    builder.create(str(venv), clear=True, symlinks=True, with_pip=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path, help="directory of the environment")
    parser.add_argument("name", help="PYTHON as make was given it; kept for the next make without PYTHON")
    arguments = parser.parse_args()
    venv, record = arguments.venv, arguments.venv / ".python"
    problem = (
        find_version_problem(sys.version_info)
        or find_platform_problem(sys.platform, platform.machine(), *platform.libc_ver())
        or find_module_problem()
    )
    if problem:
        sys.exit(problem)

    reason = find_reason(venv, record.read_text().splitlines() if record.exists() else []) if venv.exists() else ""
    if reason:
        print(f"{venv} is made again: {reason}", flush=True)
    elif venv.exists():
        keep_record(record, arguments.name)
        return
    print(f"making {venv} with Python {platform.python_version()} from {sys.base_prefix}", flush=True)
    try:
        create_environment(venv)
        record.write_text(f"{arguments.name}\n{identify(venv)}\n")
    except OSError as error:
        sys.exit(f"{venv} cannot be made: {error}: the checkout has to be on a writable disk with 1 GB free")


if __name__ == "__main__":
    main()
