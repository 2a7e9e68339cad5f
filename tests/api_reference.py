"""Write docs/api.md from the public names of the package: `python -m tests.api_reference`."""

import ast
import importlib
import inspect
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE, INSTALLED = "app.monitoring", "prefork_observability"
MODULES = ("", ".prometheus", ".logging", ".tracing")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Public names

Made from `__all__` of the public modules by `python -m tests.api_reference`; a test fails when it differs.
Names that are not here may change in any release.
"""


def page() -> str:
    """Return the text of docs/api.md."""
    return "\n".join([HEAD, *(_module(importlib.import_module(PACKAGE + name), INSTALLED + name) for name in MODULES)])


def _module(module: ModuleType, name: str) -> str:
    entries = [_entry(public, getattr(module, public)) for public in sorted(module.__all__)]
    return "\n".join([f"## {name}\n", f"{_first_line(module)}\n", *entries])


def _entry(name: str, found: Any) -> str:
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return f"### {name}\n\nA constant of type `{type(found).__name__}`: {', '.join(f'`{one}`' for one in found)}.\n"
    lines = [f"### {name}\n", f"```python\n{_signature(name, found)}\n```\n", f"{_text(found)}\n"]
    if inspect.isclass(found) and not issubclass(found, Exception):
        lines += [f"- `{_signature(own, member)}`: {_first_line(member)}" for own, member in _methods(found)]
        lines += [""] * bool(_methods(found))
    return "\n".join(lines)


def _methods(found: type) -> list[tuple[str, Any]]:
    own = {name: getattr(found, name) for name in vars(found) if not name.startswith("_")}
    return [(name, member) for name, member in own.items() if inspect.isroutine(member) and member.__doc__]


def _signature(name: str, found: Any) -> str:
    # From the source: the text of a signature at run time differs between versions of Python.
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
