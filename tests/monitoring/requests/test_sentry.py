"""Sentry gets each unhandled exception once, whichever way it is integrated, and the log has it once."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator

import pytest

from tests.monitoring.requests.sentry_receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


WAYS = ["automatic", "around", "middleware", "middleware without logging", "logging"]


@pytest.mark.parametrize("maker", ["layer", "instrumentation"])
@pytest.mark.parametrize("way", WAYS)
async def test_sentry_gets_an_unhandled_exception_once(receiver: Receiver, way: str, maker: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.monitoring.requests.sentry_service", way, maker, receiver.dsn),
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    (event,) = receiver.events
    assert [error["type"] for error in event["exception"]["values"]] == ["LookupError"]
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["event"] for line in lines if "exception" in line] == ["unhandled_error"]
