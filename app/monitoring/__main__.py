"""The package's commands: `python -m <package> doctor module:app`."""

import argparse
import sys

from .traces.environment import exit_for_failing_import


def main() -> int:
    """Run the command that the arguments name, and return its exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="say what would make the numbers of an application wrong")
    doctor.add_argument("application", help="module:app or module:create_app(), as gunicorn takes it")
    doctor.add_argument(
        "--config",
        metavar="FILE",
        help="gunicorn's configuration; by default gunicorn_conf.py or gunicorn.conf.py here",
    )
    given = parser.parse_args()
    exit_for_failing_import()
    from .doctor.command import run  # noqa: PLC0415 -- imports OpenTelemetry

    return run(given.application, given.config)


if __name__ == "__main__":
    sys.exit(main())
