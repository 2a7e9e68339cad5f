"""The console renderer escapes control characters."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.logs.console import Console, printable

HOSTILE = "\x1b[2J\r\n2026-01-01 [info] forged\x9b31m\u202e\u2028\x07"
characters = st.characters(exclude_categories=[])


def rendered(colors: bool = False, **event: Any) -> str:  # noqa: FBT001, FBT002
    base = {"timestamp": "2026", "level": "info", "event": "happened", "logger": "x"}
    return Console(colors=colors)(SimpleNamespace(), "info", base | event).decode()


def test_an_event_is_one_line_that_reads_well() -> None:
    assert rendered(route="/x", words="two words") == "2026 [info     ] happened [x] route=/x words='two words'\n"


def test_colours_are_for_terminals() -> None:
    assert "\x1b[" in rendered(colors=True)
    assert "\x1b[" not in rendered()


def test_a_traceback_stands_indented_below() -> None:
    shown = rendered(
        exception="Traceback:\n  File x\n\tcode\nValueError: a\n2026 [info] forged", stack="Stack:\n  File y"
    )
    assert shown.splitlines()[1:3] == ["    Stack:", "      File y"]
    assert shown.splitlines()[-3:] == ["        code", "    ValueError: a", "    2026 [info] forged"]


@pytest.mark.parametrize("where", ["event", "logger", "level", "value", "exception", "stack", "nested", HOSTILE])
def test_control_characters_neither_forge_a_line_nor_drive_the_terminal(where: str) -> None:
    hostile: dict[str, Any] = {where: [{HOSTILE: HOSTILE}] if where == "nested" else HOSTILE}
    shown = rendered(**hostile)
    assert "forged" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    first, *others = shown.splitlines()
    assert first.startswith("2026 [")
    assert all(line.startswith("    ") or line == "=" * 79 for line in others)
    assert bool(others) is (where in {"exception", "stack"})


@given(st.text(characters))
def test_what_is_printable_is_left_alone_and_the_rest_can_be_told_apart(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
