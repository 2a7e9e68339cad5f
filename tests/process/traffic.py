"""Requests that go on while something else happens."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.process.service import Service


@contextmanager
def traffic(running: Service, path: str) -> Iterator[Counter[int]]:
    """Request `path` repeatedly, one request at a time, until the block ends; yield the statuses so far."""
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            while not over.is_set():
                statuses[client.get(path).status_code] += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield statuses
    finally:
        over.set()
        sender.join(30)
    assert not sender.is_alive()
