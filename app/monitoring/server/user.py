"""The user of gunicorn's workers (`user` and `group`), where the master is root and stays so.

The metrics directory and its files belong to that user, and the exporter runs as it. What the master does in the
directory it does as that user too: another process of the user could put a symbolic link in a file's place.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..multiprocess.directory import EPOCH, DirectoryError, make


@dataclass(frozen=True)
class WorkerUser:
    """A user other than the master's."""

    uid: int
    gid: int

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Set the effective user and group of the process inside the context."""
        uid, gid = os.geteuid(), os.getegid()
        os.setegid(self.gid)
        try:
            os.seteuid(self.uid)
            try:
                yield
            finally:
                os.seteuid(uid)
        finally:
            os.setegid(gid)

    def make_directory(self, path: Path) -> None:
        """Make `path` a directory of this user, unless it is one that the user can write in.

        Raise DirectoryError if that is impossible, or if it is a directory of root's with files of others.
        """
        with contextlib.suppress(OSError):  # `make` names the reason
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.acting():
            make(path)
            if os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                return
        entries = list(path.iterdir())
        if path.stat().st_uid != 0 or (entries and not (path / EPOCH).exists()):
            raise DirectoryError(
                f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: want a directory that user {self.uid} can write to, "
                "or an empty one"
            )
        # Nobody but root could put these files there.
        for entry in (path, *entries):
            os.chown(entry, self.uid, self.gid, follow_symlinks=False)


class WorkerUserError(Exception):
    """The workers cannot run as the user of the settings; the message is one line."""


def worker_user(cfg: Any) -> WorkerUser | None:
    """Return the workers' user, None if it is the master's. Raise WorkerUserError if only root could switch to it."""
    for setting, wanted, own in (("user", cfg.uid, os.geteuid()), ("group", cfg.gid, os.getegid())):
        if wanted != own and os.geteuid() != 0:
            raise WorkerUserError(f"{setting}={wanted}: only root can start workers of another {setting}; want {own}")
    return None if cfg.uid == os.geteuid() else WorkerUser(cfg.uid, cfg.gid)


@contextmanager
def acting_as(user: WorkerUser | None) -> Iterator[None]:
    """Act as `user` inside the context; do nothing if it is None."""
    with contextlib.nullcontext() if user is None else user.acting():
        yield
