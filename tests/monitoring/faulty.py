"""Exceptions and objects whose own methods and attributes fail."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from collections.abc import Iterator
from typing import Any

from app.monitoring.tracebacks import raised


class OwnAttributesError(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class NotesError(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("notes")


class StatelessError(Exception):
    """Unpickled or copied without its state, so that its text cannot be made."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class CausesError(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("cause")


class TracebacksError(Exception):
    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("traceback")


class NoDictError(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("dict")


class UntrueError(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __len__(self) -> int:
        raise RuntimeError("len")


class ClassError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("class")


class NamelessMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=NamelessMeta):
    pass


class HasNotesOfOtherTypesError(Exception):
    __notes__ = 5  # type: ignore[assignment]


def syntax_error() -> SyntaxError:
    error = SyntaxError("bad", ("f.py", 1, 1, "x", 1, 2))
    error.text = b""  # type: ignore[assignment]
    return error


def chain(length: int) -> BaseException:
    error: BaseException = ValueError("the first")
    for number in range(length):
        error, cause = LookupError(number), error
        error.__cause__ = cause
    return error


def cycle() -> BaseException:
    first, second = ValueError("one"), LookupError("two")
    first.__cause__, second.__cause__ = second, first
    return first


def group(width: int, depth: int) -> BaseException:
    error: Exception = ExceptionGroup("innermost", [ValueError(number) for number in range(width)])
    for number in range(depth):
        error = ExceptionGroup(f"level {number}", [error])
    return error


def of_recursion() -> BaseException:
    def again(number: int) -> int:
        return other(number) + 1

    def other(number: int) -> int:
        return again(number) + 1

    try:
        again(0)
    except RecursionError as error:
        return error
    raise AssertionError


FAULTY_EXCEPTIONS: dict[str, Any] = {
    "__getattr__ that fails": lambda: OwnAttributesError("x"),
    "__notes__ that fail": lambda: NotesError("x"),
    "__notes__ of another type": lambda: HasNotesOfOtherTypesError("x"),
    "text of a syntax error in bytes": syntax_error,
    "a syntax error without state": lambda: SyntaxError.__new__(SyntaxError),
    "an exception without state": lambda: StatelessError.__new__(StatelessError),
    "a decoding error without state": lambda: UnicodeDecodeError.__new__(UnicodeDecodeError),
    "__cause__ that fails": lambda: CausesError("x"),
    "__traceback__ that fails": lambda: TracebacksError("x"),
    "__dict__ that fails": lambda: NoDictError("x"),
    "__bool__ that fails": lambda: UntrueError("x"),
    "__class__ that fails": lambda: ClassError("x"),
    "a type without a name": lambda: NamelessError("x"),
    "a long chain": lambda: chain(5_000),
    "a cycle": cycle,
    "a wide group": lambda: group(5_000, 0),
    "a deep group": lambda: group(1, 900),
    "a recursion": of_recursion,
    "surrogates": lambda: ValueError("\ud800\udfff"),
    "a huge number": lambda: ValueError(10**5_000),
    "arguments that fail": lambda: KeyError(Failing()),
}


class Failing:
    """An object of which nothing can be read."""

    def fail(self, *_: object) -> Any:
        raise RuntimeError("not readable")

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = __eq__ = __format__ = __getattr__ = fail

    def __hash__(self) -> int:
        return 1


class Recursing:
    def __repr__(self) -> str:
        return repr(self)


class OfNoClass:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("class")


class FailingText(str):
    __slots__ = ()

    def fail(self, *_: object) -> Any:
        raise RuntimeError("not readable")

    __len__ = __iter__ = __str__ = __repr__ = __getitem__ = __contains__ = isprintable = lower = __format__ = fail


class FailingNumber(int):
    def fail(self, *_: object) -> Any:
        raise RuntimeError("not readable")

    __str__ = __repr__ = __lt__ = __le__ = __gt__ = __ge__ = __abs__ = __index__ = __int__ = fail


class FailingMapping(UserDict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("not readable")


class FailingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("not readable")


class LyingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield 1

    def __len__(self) -> int:
        return 1


@dataclasses.dataclass
class Node:
    name: str
    following: Any = None


def ring() -> Node:
    one = Node("one")
    one.following = Node("two", one)
    return one


def knot() -> list[Any]:
    values: list[Any] = []
    values.extend([values] * 20)
    return values


FAULTY_VALUES: dict[str, Any] = {
    "nothing readable": Failing,
    "a recursion": Recursing,
    "__class__ that fails": OfNoClass,
    "a text that fails": lambda: FailingText("text"),
    "a number that fails": lambda: FailingNumber(7),
    "a mapping that fails": lambda: FailingMapping(a=1),
    "a list that fails": lambda: FailingList([1]),
    "an endless list": lambda: LyingList([1]),
    "keys that are no text": lambda: {1: 1, None: 2, (1, 2): 3, b"x": 4, 1.5: 5, frozenset(): 6},
    "a key that fails": lambda: {Failing(): 1, FailingText("text"): 2, FailingNumber(7): 3},
    "dataclasses in a ring": ring,
    "lists in a knot": knot,
    "surrogates": lambda: ["\ud800", {"\udfff": "\ud800\udfff"}],
    "a huge number": lambda: [10**5_000, -(10**5_000), 2**64],
    "no number": lambda: [float("nan"), float("inf"), -float("inf")],
    "items of each kind": lambda: [Failing(), Recursing(), OfNoClass(), FailingText("x"), FailingNumber(1), {1: {2}}],
    "a type": lambda: Failing,
    "a type without a name": lambda: NamelessError,
}


def triple(error: BaseException | None) -> Any:
    """Return what the standard library makes of `exc_info=True`. It reads attributes of an exception itself."""
    return None if error is None else raised(error)
