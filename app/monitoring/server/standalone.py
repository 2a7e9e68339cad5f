"""A worker under a process manager other than gunicorn: `uvicorn --workers N`, `fastapi run --workers N`.

Constraint: the manager runs no code of the package, so its first worker claims the metrics directory on its behalf.
Later workers find the claim and leave the existing totals.
"""

import fcntl
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .. import logging, tracing
from ..arguments import logging_arguments, tracing_arguments
from ..companion import close_in_children
from ..doctor import ExaminationError, Finding, enforce, examination, notes
from ..metrics import process
from ..metrics.catalogue import catalogue
from ..multiprocess import slots
from ..multiprocess.directory import DirectoryError, claim, make
from ..options import Options, OptionsError
from ..refusal import end_start
from ..traces.environment import check_options
from . import manager
from .uvicorn_command import configured_workers, situation

OWNER, OWNER_LOCK, NOTES = "owner", "owner.lock", "doctor.notes"
# Files kept open until this process ends: their locks mark the slots in use.
_slot_locks: list[IO[str]] = []


def examine_surroundings(options: Options) -> list[Finding]:
    """Return the warnings about the surroundings; with errors, write them and end the start.

    A worker that replaces another one returns none: what is wrong with the disk by then must not end the service. Call
    it before the directory is made: locks on a network file system may not be granted.
    """
    directory = options.metrics_directory
    if directory is None or _owner(directory) == manager.identity():
        return []
    findings = examination.examine_surroundings(situation(options))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        end_start(str(ExaminationError(errors)))
    return findings


def make_directory(options: Options) -> None:
    """Make the metrics directory, if one is set. Raise OptionsError if it cannot be made or is another user's."""
    if options.metrics_directory is None:
        return
    try:
        make(options.metrics_directory)
    except DirectoryError as error:
        raise OptionsError(str(error)) from error


def start(options: Options, warnings: Sequence[Finding] = ()) -> None:
    """Set up this worker; the first one of a process manager logs `warnings`.

    Raise OptionsError if the metrics directory is unset or claimed by another service.
    """
    if _slot_locks:
        return
    logging.configure(**logging_arguments(options))
    directory = options.metrics_directory
    if directory is None:
        raise OptionsError("PROMETHEUS_MULTIPROC_DIR='': want a directory that the workers and the exporter share")
    try:
        _claim_for_manager(directory, warnings)
        notes.share(directory / NOTES)
        process.set_worker_slot(_lock_slot(directory))
    except DirectoryError as error:
        raise OptionsError(str(error)) from error
    except OSError as error:
        raise OptionsError(
            f"PROMETHEUS_MULTIPROC_DIR={str(directory)!r}: {error.strerror}: want a directory"
        ) from error
    catalogue().build_info.labels(options.version, platform.python_version(), options.environment).set(1)
    if options.traced:
        _start_tracing(options)


def _start_tracing(options: Options) -> None:
    try:
        check_options(options)
        tracing.configure(**tracing_arguments(options))
    except tracing.TracingConfigurationError as error:
        sys.exit(str(error))
    tracing.instrument_libraries(options.instrument_libraries)  # the application is imported next


def is_worker() -> bool:
    """Return whether `start` has set up this process."""
    return bool(_slot_locks)


def _owner(directory: Path) -> str:
    """Return the manager whose workers count in `directory`, empty if unknown."""
    try:
        return (directory / OWNER).read_text()
    except OSError:
        return ""


def _claim_for_manager(directory: Path, warnings: Sequence[Finding]) -> None:
    """Empty `directory` and log `warnings` unless a worker of the same manager has done so.

    Raise DirectoryError if another service has it.
    """
    claimant, owner = manager.identity(), directory / OWNER
    with (directory / OWNER_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        last = _owner(directory)
        if last == claimant:
            return
        if manager.runs(last):
            raise DirectoryError(
                f"PROMETHEUS_MULTIPROC_DIR={str(directory)!r}: process {last.partition(' ')[0]} counts there: "
                "want a directory of its own"
            )
        # Raises if a gunicorn master has claimed the directory.
        claim(directory).close()
        (directory / NOTES).unlink(missing_ok=True)
        owner.write_text(claimant)
        enforce(warnings)


def _lock_slot(directory: Path) -> int:
    """Lock and return the first free slot. Store the number of configured workers for the exporter."""
    slots.note_configured(directory, configured_workers())
    slot, file = slots.claim(directory, os.getpid(), os.getppid())
    _slot_locks.append(close_in_children(file))
    return slot
