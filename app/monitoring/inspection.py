"""The process that imports an application for the doctor's command: `python -m <package>.inspection`.

It does what gunicorn does up to the import: it reads the configuration file, if there is one, then imports the
application. It starts nothing. The metrics directory is set when gunicorn's configuration sets it, to a directory of
the command's own: the service may be running. The result is one line of JSON on the descriptor given.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import logging
from .doctor import Situation
from .multiprocess import values
from .observability import Observability
from .options import OptionsError


class ConfigurationError(Exception):
    """gunicorn cannot read its configuration. The message is one line."""


def inspect(reference: str, directory: Path, configuration: str = "") -> dict[str, Any]:
    """Return the findings about the application, or the `error` that kept it from being imported.

    `situation` is that of gunicorn's `configuration`, if one is given; `unused` is the reason why there is none.
    """
    result: dict[str, Any] = {}
    try:
        if configuration:
            Observability._directory = directory  # noqa: SLF001
            situation = _configured(configuration, reference)
            result = {"unused": situation} if isinstance(situation, str) else {"situation": asdict(situation)}
    except ConfigurationError as error:
        return {"error": str(error)}
    _set_directory(directory)
    # Not before: they declare metrics, as the application does.
    from .doctor.examination import examine, examine_served  # noqa: PLC0415
    from .doctor.reference import ApplicationError, load  # noqa: PLC0415

    # Before the application, which may replace it: so does the service. The lines go to standard error.
    if not logging.is_configured():
        logging.configure(renderer="json", level="INFO", service="doctor", version="", environment="")
    try:
        app = load(reference)
    except ApplicationError as error:
        return {"error": str(error)}
    findings = (examine_served if "situation" in result else examine)(app)
    return {**result, "findings": [asdict(finding) for finding in findings]}


def _set_directory(directory: Path) -> None:
    os.environ[values.DIRECTORY] = str(directory)
    values.install()


def _configured(configuration: str, reference: str) -> Situation | str:
    """Have gunicorn read its configuration; return the situation of a service that starts with it, or why it does not.

    Raise ConfigurationError if gunicorn refuses it.
    """
    try:
        from gunicorn.app.wsgiapp import WSGIApplication  # noqa: PLC0415 -- an extra of the package
    except ImportError:
        return "gunicorn is not installed"
    arguments, sys.argv = sys.argv, ["gunicorn", "--config", configuration, reference]
    try:
        cfg = WSGIApplication("%(prog)s").cfg
    except SystemExit as end:
        reason = end.code if isinstance(end.code, str) else "gunicorn has written the reason"
        raise ConfigurationError(" ".join(f"{configuration} cannot be read: {reason}".split())) from end
    finally:
        sys.argv = arguments
    os.environ.update(cfg.env)
    sys.path[:0] = [os.path.abspath(path) for path in (cfg.pythonpath or "").split(",") if path]  # noqa: PTH100
    if not Observability._under_gunicorn:  # noqa: SLF001
        return f"{configuration} does not call Observability.gunicorn()"
    from .doctor.servers import UNUSED, refuse_unused  # noqa: PLC0415
    from .server.final_settings import final_options  # noqa: PLC0415

    if cfg.on_starting is refuse_unused:
        raise ConfigurationError(f"{configuration}: {UNUSED}")
    try:
        return Situation.of_options(*final_options(Observability.current().options, reference, cfg))
    except OptionsError as error:
        raise ConfigurationError(f"{configuration}: {error}") from error


def main(arguments: list[str]) -> None:
    """Inspect, and write the result to the descriptor: reference, directory, configuration or nothing, descriptor."""
    reference, directory, configuration, descriptor = arguments
    os.set_inheritable(int(descriptor), False)
    result = inspect(reference, Path(directory), configuration)
    with os.fdopen(int(descriptor), "w") as pipe:
        pipe.write(json.dumps(result, default=str) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
