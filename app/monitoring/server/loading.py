"""Errors at the import of the application in a gunicorn worker.

gunicorn logs a traceback of its own and this package's functions for each of them.
"""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from gunicorn import util
from gunicorn.errors import AppImportError

from ..doctor import notes
from ..multiprocess.labels import CardinalityError
from ..options import OptionsError
from ..refusal import BOOT_ERROR

_INTERNALS = (
    str(Path(str(util.__file__)).parent),
    str(Path(__file__).parents[1]),
    str(Path(str(importlib.__file__)).parent),
    "<frozen importlib",
)


@contextmanager
def application_errors(reference: str) -> Iterator[None]:
    """End the service with one line for an error of the configuration, else log the traceback of the application.

    Raise AppImportError, of which gunicorn writes the message, if the module of `reference` does not exist, and
    SystemExit for other errors. One of the workers that fail at the same time writes.
    """
    try:
        yield
    except AppImportError:
        raise
    except (OptionsError, CardinalityError) as error:
        raise _refused(str(error)) from None
    except SystemExit as end:
        if isinstance(end.code, str):  # status 1, after which gunicorn starts another worker
            raise _refused(end.code) from None
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(str(error.name), reference.partition(":")[0]):
            raise AppImportError(f"{reference!r}: {error}: want a module that {Path.cwd()} or sys.path has") from None
        if notes.is_first_refusal():
            logging.getLogger("gunicorn.error").exception(
                "Exception in worker process", exc_info=(type(error), error, _of_application(error.__traceback__))
            )
        raise SystemExit(BOOT_ERROR) from None


def _refused(line: str) -> SystemExit:
    if notes.is_first_refusal():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    return SystemExit(BOOT_ERROR)


def _is_part(missing: str, module: str) -> bool:
    """Return whether a missing module is `module` or a package above it."""
    return f"{module}.".startswith(f"{missing}.")


def _of_application(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first function on that is not of gunicorn, this package or the import system."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_INTERNALS):
        trace = trace.tb_next
    return trace
