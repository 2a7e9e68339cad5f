"""One line in place of a traceback for an error of the service's own configuration, and the end of its start.

Constraint: imported before PROMETHEUS_MULTIPROC_DIR is set, so nothing here may import a module that makes metrics.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .callers import caller
from .multiprocess.labels import CardinalityError
from .options import OptionsError

# The status of a worker that fails to boot: gunicorn and Uvicorn's process manager end the service, and start another
# worker after any other status.
BOOT_ERROR = 3
# Seconds that a worker waits for its manager to end the service, because another one has refused the start.
MAX_STOP_WAIT_SECONDS = 60.0
# A method of gunicorn's application class, which runs while gunicorn reads the file, at the start and at SIGHUP.
READER = ("gunicorn.app.base", "load_config_from_module_name_or_filename")
# Functions that import the application: of Uvicorn, and of `fastapi run` in its process manager.
_IMPORTERS = (("uvicorn.importer", "import_from_string"), ("fastapi_cli.discover", "get_app_name"))


@contextmanager
def one_line_at_start() -> Iterator[None]:
    """Replace an error of the configuration by SystemExit with one line, while a server reads or imports it.

    gunicorn prints a traceback for any exception of its configuration file, but lets SystemExit pass. Uvicorn's process
    manager starts a worker again that ends with another status than BOOT_ERROR.
    """
    try:
        yield
    except (OptionsError, CardinalityError) as error:
        if caller(*READER) is not None:
            sys.exit(str(error))
        if _is_imported_by_server():
            end_start(str(error))
        raise
    except SystemExit as end:
        if isinstance(end.code, str) and _is_imported_by_server():
            end_start(end.code)
        raise


def end_start(line: str) -> NoReturn:
    """Write `line` to standard error, once for all workers of a start, and exit with BOOT_ERROR."""
    if _is_led():
        await_stop()
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    sys.exit(BOOT_ERROR)


def await_stop() -> None:
    """Wait for the stop signal of a manager that ends the service because another worker has refused the start.

    Raise SystemExit if the signal has come while the application was imported: Uvicorn's handler has noted it.
    """
    with contextlib.suppress(ValueError):  # not the main thread
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
    serving = caller("uvicorn.server", "serve")
    if serving is not None and serving.f_locals["self"].should_exit:
        sys.exit(BOOT_ERROR)
    time.sleep(MAX_STOP_WAIT_SECONDS)


def _is_imported_by_server() -> bool:
    return any(caller(*importer) is not None for importer in _IMPORTERS)


def _is_led() -> bool:
    """Return whether this is one of Uvicorn's first workers, and not the first.

    They have nothing in common yet but their numbers. All of them refuse the start, so the first one writes the line.
    """
    started = caller("uvicorn._subprocess", "subprocess_started")
    if started is None:
        return False
    number = multiprocessing.current_process().name.rpartition("-")[2]
    return number.isdecimal() and 1 < int(number) <= started.f_locals["config"].workers
