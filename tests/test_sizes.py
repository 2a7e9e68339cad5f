"""Files and functions stay within the limits of CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator

from app.settings import ROOT

SOURCES = [ROOT / "gunicorn_conf.py"]
SOURCES += [path for name in ("app", "loadtest", "monitoring", "tests") for path in (ROOT / name).rglob("*.py")]
RULE = re.compile(r"Files have at most (\d+) lines, functions at most (\d+)\.")


def limits() -> tuple[int, int]:
    """Return the most lines of a file and of a function."""
    (found,) = RULE.findall((ROOT / "CONTRIBUTING.md").read_text())
    return int(found[0]), int(found[1])


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Return name and lines of each function in `source`; decorators do not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_is_longer_than_the_rules_allow() -> None:
    most, _ = limits()
    assert len(SOURCES) > 300
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > most} == {}


def test_no_function_is_longer_than_the_rules_allow() -> None:
    _, most = limits()
    found = [(path, *function) for path in SOURCES for function in functions(path.read_text())]
    assert [(path, name, lines) for path, name, lines in found if lines > most] == []
