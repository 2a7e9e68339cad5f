"""What an access-log line costs, and how many a second reach the reader of a pipe: ours beside structlog's recipe.

Each way of logging runs in a process of its own, with this one reading its standard output. The recipe is the one that
structlog documents for applications that keep the standard library's handlers; it redacts nothing and stops whenever
its reader does.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from app.monitoring import log_chain, log_writer
from app.monitoring.logging import configure
from app.settings import ROOT

RESULT = ROOT / "build" / "bench" / "log_lines.json"
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
    mock.patch.object(log_chain, "redact", lambda event: event).start()
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
    "ours_without_redaction": _ours_without_redaction,
    "standard_recipe": _recipe,
}


def _log(lines: int, rounds: int) -> dict[str, float]:
    """In the process that logs: the best of `rounds`, since other programs can only add to what a line costs."""
    log = structlog.get_logger("access")
    structlog.contextvars.bind_contextvars(request_id="0123456789abcdef0123456789abcdef")
    caller, process, wall = [], [], []
    for _ in range(rounds + 1):
        begun = time.thread_time(), time.process_time(), time.perf_counter()
        for number in range(lines):
            log.info(
                "request",
                method="GET",
                route="/api/v1/destinations/{slug}/reviews",
                status=200,
                duration_ms=12.34,
                client_ip="203.0.113.0/24",
            )
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
    """What the process that logs says of itself, once every line has been read."""
    command = [sys.executable, "-m", __spec__.name, "--way", way, "--lines", str(lines), "--rounds", str(rounds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        read = length = 0
        while more := os.read(process.stdout.fileno(), 1 << 16):
            read += more.count(b"\n")
            length += len(more)
        told: dict[str, float] = json.loads(process.stderr.read())
    if read != lines * (rounds + 1):
        raise RuntimeError(f"{way}: {read} of {lines * (rounds + 1)} lines arrived")
    return told | {"bytes_per_line": round(length / read)}


def main() -> None:
    """Measure every way, one after the other, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.benchmarks.log_lines", description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000, help="lines a round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts (default 5)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        WAYS[arguments.way]()
        json.dump(_log(arguments.lines, arguments.rounds), sys.stderr)
        return
    result: dict[str, Any] = {way: _measure(way, arguments.lines, arguments.rounds) for way in WAYS}
    result["recipe_over_ours"] = round(result["standard_recipe"]["caller_us"] / result["ours"]["caller_us"], 2)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
