"""Imports before the forks."""

import gc
import sys
from pathlib import Path

import pytest

from app.monitoring.preload import preload


def test_modules_are_loaded_and_the_collector_ignores_their_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "preloaded_for_a_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    try:
        preload("preloaded_for_a_test", "json")
        assert gc.get_freeze_count() > before
        assert sys.modules.pop("preloaded_for_a_test", None)
    finally:
        gc.unfreeze()
