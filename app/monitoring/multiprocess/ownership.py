"""Access of other local users to the metrics directory.

An attack needs a place in which every user may create entries, such as /tmp and /dev/shm. The default path is
predictable, so another user can create the directory, or a symbolic link in its place, before the service does.
Three cases look similar and are ordinary:

- An entry of root. An `emptyDir` of Kubernetes belongs to root and has mode 0777, or 2777 with fsGroup. The tmpfs of a
  container engine belongs to root and has mode 1777.
- A mount point, with any owner and mode. Mounting takes privileges, and a volume is visible in its containers only.
- An entry of another user where not every user may create entries: /run/shop of the user that gunicorn switches to, or
  a user's checkout in which root runs the service.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Mount points that all users share.
SHARED = frozenset({Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")})  # noqa: S108


def planted_entry(path: Path) -> Path | None:
    """Return the first directory or link on the way to `path` that another user may have planted; None without one."""
    trusted = {0, os.geteuid()}
    for entry in _entries(path.absolute(), set()):
        shared = entry.parent.stat().st_mode & stat.S_IWOTH
        if shared and entry.lstat().st_uid not in trusted and not entry.is_mount():
            return entry
    return None


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a new file of root's to the owner of `directory`: gunicorn's master is root where its workers are not."""
    if os.geteuid() == 0 and (owner := directory.stat()).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def open_directory(path: Path) -> Path | None:
    """Return `path` if other users may write in it, or the directory above it in which they may replace it."""
    resolved = path.resolve()
    if resolved.is_dir() and _is_open(resolved):
        return path
    for parent in resolved.parents:
        if parent.is_dir() and not parent.is_mount():
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return parent
    return None


def _is_open(directory: Path) -> bool:
    if directory in SHARED | {Path(tempfile.gettempdir()).resolve()}:
        return True
    found = directory.stat()
    # Group access to a directory of root is an administrator's decision.
    group = 0 if found.st_uid == 0 else stat.S_IWGRP
    return bool(found.st_mode & (stat.S_IWOTH | group)) and not directory.is_mount()


def _entries(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the existing entries on the way to `path` from the root on, with those on the way to a link's target."""
    for entry in (*reversed(path.parents), path):
        if entry in seen or entry.name == "..":
            continue
        seen.add(entry)
        if not os.path.lexists(entry):
            return
        yield entry
        if entry.is_symlink():
            yield from _entries(entry.parent / entry.readlink(), seen)
