"""Checks of the metrics directory: it is set, local, writable, closed to other users and has room."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..multiprocess.ownership import open_directory, planted_entry
from ..multiprocess.values import DIRECTORY
from .finding import Finding
from .situation import Situation

MOUNTS = Path("/proc/self/mountinfo")
MIN_FREE_BYTES_PER_PROCESS = 1 << 20
OTHER_PROCESSES = 2  # the master and the exporter
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"}
)
# File systems of the kernel's own objects, in which no user can create a file; root may "write" there all the same.
PSEUDO_FILE_SYSTEMS = frozenset(
    {"proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "devpts", "bpf", "nsfs"}
)


def unset_directory(situation: Situation) -> Iterator[Finding]:
    """Find several workers without a directory to share."""
    if situation.directory is None and situation.workers > 1:
        yield Finding(
            "directory-unset",
            "error",
            f"{DIRECTORY} is not set and there are {situation.workers} workers",
            "each worker counts for itself, and a scrape shows one of them",
            f"set {DIRECTORY} to a directory of the service's own, on a memory file system",
        )


def unfit_directory(situation: Situation, mounts: Path = MOUNTS) -> Iterator[Finding]:
    """Find a directory that cannot be written to, lies on another machine, or is nearly full."""
    if situation.directory is None:
        return
    named = f"{DIRECTORY}={str(situation.directory)!r}"
    path = _existing(situation.directory)
    kind = file_system(path, mounts)
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK) or kind in PSEUDO_FILE_SYSTEMS:
        yield Finding(
            "directory-not-writable",
            "error",
            f"{named} cannot be written to" + f" (file system {kind})" * (kind in PSEUDO_FILE_SYSTEMS),
            "no metric is stored",
            "a directory that the service's user owns",
        )
        return
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith(("nfs", "fuse.")):
        yield Finding(
            "directory-on-network",
            "error",
            f"{named} is on a network file system ({kind})",
            "memory maps and locks are not reliable there: processes are taken for dead and counted twice",
            "a directory on a memory file system or a local disk",
        )
    room = os.statvfs(path)
    free, wanted = room.f_bavail * room.f_frsize, MIN_FREE_BYTES_PER_PROCESS * (situation.workers + OTHER_PROCESSES)
    if (
        room.f_blocks and free < wanted
    ):  # 0 of 0 blocks is a file system without a limit or a count, such as tmpfs of size=0
        yield Finding(
            "directory-nearly-full",
            "warning",
            f"{named} has {free // 1024} KiB left",
            "new series are not counted once it is full",
            f"{wanted >> 20} MiB or more for {situation.workers} workers",
        )


def shared_directory(situation: Situation) -> Iterator[Finding]:
    """Find a directory that another user has made or may write in; `ownership` says which cases are ordinary."""
    if situation.directory is None:
        return
    named = f"{DIRECTORY}={str(situation.directory)!r}"
    if (planted := planted_entry(situation.directory)) is not None:
        yield Finding(
            "directory-of-another-user",
            "error",
            f"{named}: {str(planted)!r} belongs to user {planted.lstat().st_uid}, in a directory open to all users",
            "that user can read, forge and remove the values, and choose the place where the service removes files",
            f"remove it, or set {DIRECTORY} to a directory that the service's user owns, with mode 700",
        )
    elif (loose := open_directory(situation.directory)) is not None:
        yield Finding(
            "directory-open-to-others",
            "warning",
            f"{named}: other users may write in {str(loose)!r}",
            "they can forge, remove or replace the values",
            f"chmod 700 where the service's user owns it, or another {DIRECTORY}, made with install -d -m 700",
        )


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the file system that `path` is on, empty where the kernel does not say."""
    found, longest = "", -1
    resolved = path.resolve()
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if not after:
            continue
        point = Path(_unescaped(before.split()[4]))
        # The last one of the same length wins: it was mounted over the others.
        if resolved.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = after.split()[0], len(point.parts)
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _existing(path: Path) -> Path:
    """Return `path` or the nearest directory above it that exists: it is made there."""
    return next((one for one in (path, *path.absolute().parents) if one.exists()), path)
