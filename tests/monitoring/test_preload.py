"""Imports before the forks."""

import gc
import sys
from pathlib import Path

import pytest

from app.monitoring.preload import preload


def test_a_module_that_does_not_exist_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^preload='no_package.module': No module named 'no_package': want modules"):
        preload("no_package.module")
    # The error of a module that exists is its own.
    (tmp_path / "incomplete_for_a_test.py").write_text("import no_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        preload("incomplete_for_a_test")


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
