"""Imports by gunicorn's master, before it forks."""

import gc
import importlib


def preload(*modules: str) -> None:
    """Import `modules` and freeze the garbage collector, so that their pages stay shared with the workers.

    Modules only: an application, its connections and channels are created after the fork.
    """
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
