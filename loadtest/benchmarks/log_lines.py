"""Cost of an access-log line, and lines a second that reach the reader of a pipe: ours beside structlog's recipe.

    python -m loadtest.benchmarks.log_lines     build/bench/log_lines.json

Each way of logging runs in a process of its own, with this one reading its standard output. The recipe is the one that
structlog documents for applications that keep the standard library's handlers; it redacts nothing and stops whenever
its reader does. `trusted` is the way that access lines go, past redaction, several at a time.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import structlog

from app.monitoring.logging import TrustedLogger, configure
from app.monitoring.logs import chain as log_chain
from app.monitoring.logs import writer as log_writer
from app.settings import ROOT
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures, options, progress, run, table

# Lines a round, and rounds.
SIZES = {Depth.QUICK: (5_000, 2), Depth.DEFAULT: (20_000, 5), Depth.FULL: (50_000, 11)}
SERVICE = {"service": "baliblissed-backend", "version": "1.0.0", "environment": "production"}
LINES_BETWEEN_FLUSHES = 1_000


def _ours() -> None:
    configure(
        renderer="json",
        level="INFO",
        service=SERVICE["service"],
        version=SERVICE["version"],
        environment=SERVICE["environment"],
    )


def _ours_without_redaction() -> None:
    mock.patch.object(log_chain, "redact_event", lambda event: event).start()
    _ours()


def _recipe() -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    structlog.contextvars.bind_contextvars(**SERVICE, worker=os.getpid())


WAYS: dict[str, Callable[[], None]] = {
    "ours": _ours,
    "trusted": _ours,
    "ours_without_redaction": _ours_without_redaction,
    "standard_recipe": _recipe,
}


FIELDS = {
    "method": "GET",
    "route": "/api/v1/destinations/{slug}/reviews",
    "status": 200,
    "duration_ms": 12.34,
    "client_ip": "203.0.113.0/24",
}
REQUEST_ID = "0123456789abcdef0123456789abcdef"


def _members(duration: float) -> str:
    return (
        f'"request_id":"{REQUEST_ID}","method":"GET","route":"/api/v1/destinations/{{slug}}/reviews","status":200,'
        f'"duration_ms":{duration},"client_ip":"203.0.113.0/24"'
    )


def _logger(way: str) -> Callable[[], object]:
    """Return the function that writes one line."""
    structlog.contextvars.bind_contextvars(request_id=REQUEST_ID)
    if way == "trusted":
        trusted = TrustedLogger("access")
        return lambda: trusted.info("request", _members, 12.34, plain=True)
    log = structlog.get_logger("access")
    return lambda: log.info("request", **FIELDS)


def _log(way: str, lines: int, rounds: int) -> dict[str, float]:
    """Measure in the logging process: the best of `rounds`, since other programs can only add to the cost of a line."""
    log = _logger(way)
    caller, process, wall = [], [], []
    for _ in range(rounds + 1):
        begun = time.thread_time(), time.process_time(), time.perf_counter()
        for number in range(lines):
            log()
            if number % LINES_BETWEEN_FLUSHES == 0:
                log_writer.flush(60)
        log_writer.flush(60)
        caller.append(time.thread_time() - begun[0])
        process.append(time.process_time() - begun[1])
        wall.append(time.perf_counter() - begun[2])
    best = {"caller_us": min(caller[1:]), "process_cpu_us": min(process[1:])}  # the first round warms up
    return {key: round(seconds / lines * 1e6, 2) for key, seconds in best.items()} | {
        "lines_per_second": round(lines / min(wall[1:]))
    }


def _measure(way: str, lines: int, rounds: int) -> dict[str, float]:
    """Return the figures of the logging process, read after every line has arrived."""
    command = [
        sys.executable,
        "-m",
        "loadtest.benchmarks.log_lines",
        "--way",
        way,
        "--lines",
        str(lines),
        "--rounds",
        str(rounds),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        read = length = 0
        while more := os.read(process.stdout.fileno(), 1 << 16):
            read += more.count(b"\n")
            length += len(more)
        told: dict[str, float] = json.loads(process.stderr.read())
    if read != lines * (rounds + 1):
        raise BenchmarkError(f"{way}: {read} of {lines * (rounds + 1)} lines arrived")
    return told | {"bytes_per_line": round(length / read)}


def measure(depth: Depth) -> Figures:
    """Measure every way, one after the other."""
    ways = {}
    for way in WAYS:
        progress(f"log lines: {way}")
        ways[way] = _measure(way, *SIZES[depth])
    recipe = ways["standard_recipe"]["caller_us"]
    return {"ways": ways, "recipe_over_ours": {way: round(recipe / one["caller_us"], 2) for way, one in ways.items()}}


def text(figures: Figures) -> str:
    """Format the table."""
    rows = [["", "caller, us", "process CPU, us", "lines/s", "bytes", "recipe over it"]]
    for way, one in figures["ways"].items():
        times = [f"{one['caller_us']:.1f}", f"{one['process_cpu_us']:.1f}", f"{one['lines_per_second']:,}"]
        rows.append([way, *times, str(one["bytes_per_line"]), f"{figures['recipe_over_ours'][way]:.1f}x"])
    return table(rows)


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("log_lines", measure, text, depth)


def _arguments() -> argparse.Namespace:
    parser = options("python -m loadtest.benchmarks.log_lines")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.way:
        WAYS[given.way]()
        json.dump(_log(given.way, given.lines, given.rounds), sys.stderr)
    else:
        sys.exit(main(given.depth))
