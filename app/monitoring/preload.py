"""Imports by gunicorn's master, before it forks."""

import gc
import importlib
import sys


def preload(*modules: str) -> None:
    """Import `modules` and freeze the garbage collector, so that their pages stay shared with the workers.

    Modules only: an application, its connections and channels are created after the fork. Exit with one line if a
    module does not exist.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # of an import in the module
            sys.exit(f"preload={module!r}: {error}: want modules that can be imported")
    _make_route()
    gc.collect()
    gc.freeze()


def _make_route() -> None:
    """Make a route: FastAPI imports some modules only with the first one."""
    from fastapi import FastAPI  # noqa: PLC0415 -- the exporter does without it

    def route(parameter: int) -> dict[str, str]:
        return {"parameter": str(parameter)}

    FastAPI().get("/{parameter}")(route)
