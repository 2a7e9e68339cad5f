"""Call a function as soon as a module has been imported."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

Hook = Callable[[], object]


class _Finder:
    """A finder of sys.meta_path that extends the loaders of the awaited modules."""

    def __init__(self) -> None:
        self.hooks: dict[str, Hook] = {}
        self._searched: set[str] = set()

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 -- the signature is that of sys.meta_path
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec that the other finders have for an awaited module, None for any other."""
        hook = self.hooks.get(name)
        if hook is None or name in self._searched:
            return None
        self._searched.add(name)  # the search below comes here as well
        try:
            spec = find_spec(name)
        finally:
            self._searched.discard(name)
        if spec is not None and spec.loader is not None:
            _extend(spec.loader, hook)
        return spec


_finder = _Finder()


def _extend(loader: object, hook: Hook) -> None:
    execute: Callable[[ModuleType], None] = loader.exec_module  # type: ignore[attr-defined]

    def exec_module(module: ModuleType) -> None:
        execute(module)
        hook()

    loader.exec_module = exec_module  # type: ignore[attr-defined]


def when_imported(name: str, hook: Hook) -> None:
    """Call `hook` after each import of the module `name`; an exception of it fails the import.

    If the module is imported already, the caller has to call it.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.hooks[name] = hook
