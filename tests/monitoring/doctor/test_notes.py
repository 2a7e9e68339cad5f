"""Notes that processes share, when several of them write at the same time."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.monitoring.doctor import notes

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


def note_slowly(path: Path, offset: int, locked: "Event") -> None:
    """Note the time at `offset`, as another worker does, a moment after the lock has been taken."""
    notes.share(path)
    with notes._locked():
        locked.set()
        time.sleep(0.3)
        os.pwrite(notes._descriptor, notes._TIME.pack(time.monotonic()), offset)


@pytest.mark.parametrize(
    ("first", "offset"),
    [(notes.is_first_refusal, notes._REFUSAL), (notes.is_first_failure, notes._FAILURE)],
    ids=["refusal", "failure"],
)
def test_a_process_that_waits_for_the_lock_is_not_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[], bool], offset: int
) -> None:
    monkeypatch.setattr(notes, "_descriptor", os.dup(notes._descriptor))  # `share` closes it
    notes.share(tmp_path / "notes")
    spawn = multiprocessing.get_context("spawn")
    locked = spawn.Event()
    other = spawn.Process(target=note_slowly, args=(tmp_path / "notes", offset, locked))
    other.start()
    assert locked.wait(30)
    assert not first()
    other.join(30)
    assert other.exitcode == 0
