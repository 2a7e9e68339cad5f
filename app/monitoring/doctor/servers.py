"""Check of a worker that serves an application without the package's own start."""

from collections.abc import Iterator

from ..callers import caller
from .finding import Finding


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
