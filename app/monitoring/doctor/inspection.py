"""The process that imports the application for the command: `python -m <package>.doctor.inspection`.

It sets the metrics directory as gunicorn's configuration does: after this package has been found, which imports the
packages around it, and before the application is imported. The result is one line of JSON on the descriptor given.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..multiprocess import values


def inspect(reference: str, directory: Path) -> dict[str, Any]:
    """Return the findings about the application, or the `error` that kept it from being imported."""
    os.environ[values.DIRECTORY] = str(directory)
    values.install()
    # Not before: they declare metrics, as the application does.
    from .examination import examine  # noqa: PLC0415
    from .reference import ApplicationError, load  # noqa: PLC0415

    try:
        app = load(reference)
    except ApplicationError as error:
        return {"error": str(error)}
    return {"findings": [asdict(finding) for finding in examine(app)]}


def main(arguments: list[str]) -> None:
    """Inspect, and write the result to the descriptor: reference, directory, descriptor."""
    reference, directory, descriptor = arguments
    os.set_inheritable(int(descriptor), False)
    result = inspect(reference, Path(directory))
    with os.fdopen(int(descriptor), "w") as pipe:
        pipe.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
