"""Write docs/api.md from the public names of the package: `python -m tests.api_reference`."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, is_typeddict

from app.monitoring import Options

PACKAGE, INSTALLED = "app.monitoring", "prefork_observability"
MODULES = (
    "",
    *(".prometheus", ".logging", ".tracing", ".redaction", ".health", ".overload", ".addresses"),
    *(".host", ".doctor", ".server.worker", ".server.logger"),
)
ROOT = importlib.import_module(PACKAGE)
COMMANDS = ((".exporter",), ("", "doctor"))
DEFAULTS_BY_MACHINE = {"workers": "2 to 4, by CPUs"}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Public names

Made from `__all__` of the public modules and from the fields of `Options` by `python -m tests.api_reference`; a
test fails when it differs.
Names that are not here may change in any release.
"""


def page() -> str:
    """Return the text of docs/api.md."""
    modules = [_module(importlib.import_module(PACKAGE + name), INSTALLED + name) for name in MODULES]
    return "\n".join([HEAD, *modules, _commands()])


def _module(module: ModuleType, name: str) -> str:
    entries = [_entry(public, getattr(module, public), name) for public in sorted(module.__all__)]
    return "\n".join([f"## {name}\n", f"{_first_line(module)}\n", *entries])


def _entry(name: str, found: Any, module: str) -> str:
    if module != INSTALLED and name in ROOT.__all__ and getattr(ROOT, name) is found:
        return f"### {name}\n\nThe same as `{INSTALLED}.{name}`.\n"
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return f"### {name}\n\n{_value(found)}\n"
    lines = [f"### {name}\n", f"```python\n{_signature(name, found)}\n```\n", f"{_text(found)}\n"]
    if inspect.isclass(found):
        members = [] if found is Options else _fields(found)
        members += [_member(own, member) for own, member in _properties(found)]
        members += [_member(_signature(own, member), member) for own, member in _methods(found)]
        lines += [*members, ""] if members else []
    if found is Options:
        lines.append(_options())
    return "\n".join(lines)


def _member(signature: str, found: Any) -> str:
    """Return the list item of a method or property, with its whole docstring indented as the item's text."""
    return textwrap.indent(f"`{signature}`: {_text(found)}", "  ").replace("  ", "- ", 1)


def _value(found: Any) -> str:
    if get_origin(found) is Literal:
        return f"One of {', '.join(f'`{word!r}`' for word in get_args(found))}."
    if get_origin(found) is not None:
        return f"A name for the type `{str(found).replace('typing.', '').replace('collections.abc.', '')}`."
    if isinstance(found, Mapping):
        return f"A mapping with the keys {', '.join(f'`{key}`' for key in found)}."
    return f"The constant `{found!r}`."


def _options() -> str:
    """Return the table of options, with the environment variable, default and meaning of each."""
    meanings = _docstrings(Options)
    lines = ["### Fields of Options\n", "| option | variable | default | meaning |", "|---|---|---|---|"]
    for option in fields(Options):
        shown = DEFAULTS_BY_MACHINE.get(option.name) or _default(option.default)
        accepted = option.metadata["check"].__doc__ or ""
        meaning = meanings[option.name] + (f" Want {accepted}." if accepted.startswith("a number") else "")
        lines.append(f"| `{option.name}` | `{option.metadata['variable']}` | {shown} | {meaning} |")
    return "\n".join([*lines, ""])


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(str(one).removesuffix('/32') for one in value)}`" if value else ""
    return "" if value in {None, ""} else f"`{value}`".replace("|", r"\|")


def _fields(of: type) -> list[str]:
    """Return a line for each public attribute of a class: name, type, default and docstring.

    Of classes that are neither dataclasses nor TypedDicts, only for those with a docstring.
    """
    meanings, declares = _docstrings(of), is_dataclass(of) or is_typeddict(of)
    return [
        f"- `{ast.unparse(_readable(line))}`" + (f": {meanings[name]}" if name in meanings else "")
        for line in _body(of)
        if isinstance(line, ast.AnnAssign)
        and not (name := ast.unparse(line.target)).startswith("_")
        and (declares or name in meanings)
    ]


def _readable(line: ast.AnnAssign) -> ast.AnnAssign:
    line.annotation = _unquoted(line.annotation) or line.annotation
    return line


def _body(of: type) -> list[ast.stmt]:
    made = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    assert isinstance(made, ast.ClassDef)
    return made.body


def _docstrings(of: type) -> dict[str, str]:
    """Return the docstrings of the fields of a class, each joined into one line."""
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(_body(of))
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _commands() -> str:
    """Return the --help output of each command."""
    return "\n".join(["## Commands\n", *(_help(*command) for command in COMMANDS)])


def _help(module: str, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE + module, *command, "--help"],
        env={**os.environ, "COLUMNS": "110"},
        cwd=PAGE.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    title = " ".join(["python -m", INSTALLED + module, *command])
    return f"### {title}\n\n```text\n{done.stdout.replace(PACKAGE, INSTALLED).rstrip()}\n```\n"


def _methods(found: type) -> list[tuple[str, Any]]:
    own = {name: getattr(found, name) for name in vars(found) if not name.startswith("_")}
    return [(name, member) for name, member in own.items() if inspect.isroutine(member) and member.__doc__]


def _properties(found: type) -> list[tuple[str, property]]:
    own = {name: one for name, one in vars(found).items() if isinstance(one, property) and not name.startswith("_")}
    return [(f"{name}: {_returned(one)}", one) for name, one in own.items()]


def _returned(found: property) -> str:
    made = ast.parse(textwrap.dedent(inspect.getsource(found.fget or _returned))).body[0]
    assert isinstance(made, ast.FunctionDef)
    return ast.unparse(_unquoted(made.returns) or ast.Constant(None))


def _signature(name: str, found: Any) -> str:
    # Read from the source: inspect.signature() renders differently between Python versions.
    function = vars(found).get("__init__") if inspect.isclass(found) else found
    if function is None or hasattr(found, "__dataclass_fields__"):
        return name
    made = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef)
    for argument in (*made.args.args, *made.args.kwonlyargs):
        argument.annotation = _unquoted(argument.annotation)
    made.args.args = [argument for argument in made.args.args if argument.arg not in {"self", "cls"}]
    returns = "" if inspect.isclass(found) else f" -> {ast.unparse(_unquoted(made.returns) or ast.Constant(None))}"
    return f"{name}({ast.unparse(made.args)}){returns}"


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _text(found: Any) -> str:
    return inspect.cleandoc(found.__doc__ or "")


def _first_line(found: Any) -> str:
    return _text(found).partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page())
