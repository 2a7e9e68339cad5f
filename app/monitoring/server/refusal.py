"""One line for a wrong option in gunicorn's configuration file.

gunicorn prints a traceback for any exception of that file, but lets SystemExit pass.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..callers import caller
from ..options import OptionsError

# A method of gunicorn's application class, which runs while gunicorn reads the file, at the start and at SIGHUP.
_READER = ("gunicorn.app.base", "load_config_from_module_name_or_filename")


@contextmanager
def one_line_under_gunicorn() -> Iterator[None]:
    """Replace OptionsError by SystemExit with its message while gunicorn reads its configuration file."""
    try:
        yield
    except OptionsError as error:
        if caller(*_READER) is not None:
            sys.exit(str(error))
        raise
