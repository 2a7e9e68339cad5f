"""Forked processes that take orders over pipes, and never outlive the benchmark.

If the benchmark is killed, the other end of their pipe closes, and they end too.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from loadtest.benchmarks.command import BenchmarkError

_FORK = multiprocessing.get_context("fork")
Target = Callable[..., None]
ENDED = "a process of the benchmark has ended early: its traceback stands above"


@contextmanager
def processes(target: Target, arguments: Iterable[Sequence[Any]]) -> Iterator[list[Connection]]:
    """Run `target(pipe, *one)` in a process for each one of `arguments`; yields the pipes to them. All are killed."""
    pipes: list[Connection] = []
    running = []
    try:
        for one in arguments:
            near, far = _FORK.Pipe()
            pipes.append(near)
            process = _FORK.Process(target=_run, args=(pipes, far, target, one), daemon=True)
            process.start()
            far.close()
            running.append(process)
        yield pipes
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.join()
        for pipe in pipes:
            pipe.close()


def _run(inherited: Sequence[Connection], pipe: Connection, target: Target, arguments: Sequence[Any]) -> None:
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the benchmark, which kills this process
    # A reader of the benchmark's output waits until all its writers have closed it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        target(pipe, *arguments)
    except EOFError:
        return


def answers(pipes: Iterable[Connection]) -> list[Any]:
    """Return the next message of each process. Raise BenchmarkError if one has ended."""
    try:
        return [pipe.recv() for pipe in pipes]
    except (EOFError, ConnectionError) as error:
        raise BenchmarkError(ENDED) from error


def order(pipes: Sequence[Connection], what: object) -> list[Any]:
    """Send `what` to all of them; what they answer. Raises BenchmarkError where one has ended."""
    try:
        for pipe in pipes:
            pipe.send(what)
    except ConnectionError as error:
        raise BenchmarkError(ENDED) from error
    return answers(pipes)
