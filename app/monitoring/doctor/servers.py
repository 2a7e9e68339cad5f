"""Checks of the server: whether it runs with the package's settings, or after the package's own start."""

import sys
from collections.abc import Iterator

from ..callers import caller
from ..refusal import READER
from .declared import PACKAGE
from .finding import Finding

UNUSED = Finding(
    "unused-settings",
    "error",
    "Observability.gunicorn() was called, and gunicorn does not run with the settings that it returned",
    "each worker counts for itself, and there are no hooks, no exporter and no redacted logs",
    'globals().update(Observability(...).gunicorn("module:app")) in gunicorn_conf.py',
)


def refuse_unused(server: object) -> None:  # noqa: ARG001 -- the signature is gunicorn's
    """Refuse the start: the hook `on_starting` where the settings, which have another one, are not used."""
    sys.exit(str(UNUSED))


def refuse_unless_used() -> None:
    """Have gunicorn refuse the start unless its configuration file, which it reads now, uses the settings."""
    reader = caller(*READER)
    if reader is not None:
        reader.f_locals["self"].cfg.set("on_starting", refuse_unused)


def unused_settings() -> Iterator[Finding]:
    """Find a gunicorn worker of another class than the package's. Call it after Observability.gunicorn() only."""
    spawning = caller("gunicorn.arbiter", "spawn_worker")
    ours = getattr(sys.modules.get(f"{PACKAGE}.server.worker"), "Worker", ())
    if spawning is not None and not isinstance(spawning.f_locals["worker"], ours):
        yield UNUSED


def unstarted_worker() -> Iterator[Finding]:
    """Find a worker of gunicorn or of `uvicorn --workers`. Call it where nothing has set up this process."""
    if _is_worker():
        yield Finding(
            "not-started",
            "warning",
            "neither Observability.gunicorn() nor start_worker() was called before this worker",
            "metrics count this process only and logs are not redacted",
            "start with gunicorn -c gunicorn_conf.py, or call start_worker()",
        )


def _is_worker() -> bool:
    """Return whether a server with several processes runs this one.

    The stack tells: both functions run for a worker's whole life. Imported modules, the program's name and a parent of
    multiprocessing are those of tests, too.
    """
    if caller("gunicorn.arbiter", "spawn_worker") is not None:
        return True
    uvicorns = caller("uvicorn._subprocess", "subprocess_started")
    # With --reload it is the only process.
    return uvicorns is not None and not getattr(uvicorns.f_locals.get("config"), "should_reload", False)
