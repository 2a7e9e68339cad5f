"""Probes of the overload benchmark, in a process of their own: liveness and readiness once a second until SIGTERM.

Each probe has a new connection, as Kubernetes' probes have. One JSON line at the end: the durations by path.
"""

import argparse
import http.client
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from loadtest.benchmarks.command import Figures
from loadtest.benchmarks.overload_clients import quantiles

PATHS = ("/health/live", "/health/ready")
INTERVAL_SECONDS, TIMEOUT_SECONDS = 1.0, 10.0


def probe(port: int, path: str) -> tuple[bool, float]:
    """Return whether the response was 200, and the seconds until it was read."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status == http.client.OK, time.perf_counter() - started
    except (OSError, http.client.HTTPException):
        return False, time.perf_counter() - started
    finally:
        connection.close()


def run(port: int, ended: threading.Event, interval: float = INTERVAL_SECONDS) -> Figures:
    """Probe every `interval` seconds until `ended` is set."""
    found: dict[str, list[tuple[bool, float]]] = {path: [] for path in PATHS}

    def watch(path: str) -> None:
        due = time.monotonic()
        while not ended.is_set():
            found[path].append(probe(port, path))
            due = max(due + interval, time.monotonic())
            ended.wait(due - time.monotonic())

    with ThreadPoolExecutor(len(PATHS)) as pool:
        list(pool.map(watch, PATHS))
    return {
        path: {
            "probes": len(results),
            "failed": sum(not fit for fit, _ in results),
            **quantiles([seconds for _, seconds in results]),
        }
        for path, results in found.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m loadtest.benchmarks.overload_probes")
    parser.add_argument("--port", type=int, required=True)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print(json.dumps(run(parser.parse_args().port, stopped)))
