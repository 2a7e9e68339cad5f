"""References to an application, as gunicorn takes them: `module:app`, `module:create_app()` or `module`."""

import ast
import importlib
from typing import Any

DEFAULT_NAME = "application"


class ApplicationError(Exception):
    """The application cannot be imported. The message is one line."""


def load(reference: str) -> Any:
    """Import the application; call its factory with the reference's literals. Raise ApplicationError if that fails."""
    module_name, _, expression = reference.partition(":")
    name, arguments, keywords = _parsed(reference, expression or DEFAULT_NAME)
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        return found if arguments is None else found(*arguments, **keywords)  # type: ignore[operator]
    # SystemExit too: a module that ends the process at its import is no application.
    except (Exception, SystemExit) as error:
        raise ApplicationError(
            " ".join(f"{reference} cannot be imported: {type(error).__name__}: {error}".split())
        ) from error


def _parsed(reference: str, expression: str) -> tuple[str, list[Any] | None, dict[str, Any]]:
    """Return the name in an expression and, of a call, the arguments."""
    try:
        node = ast.parse(expression, mode="eval").body
        if not isinstance(node, ast.Call):
            return _dotted(node), None, {}
        arguments = [ast.literal_eval(argument) for argument in node.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        return _dotted(node.func), arguments, keywords
    except (SyntaxError, ValueError) as error:
        raise ApplicationError(f"{reference!r} is no application: want module:app or module:create_app()") from error


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(ast.dump(node))
