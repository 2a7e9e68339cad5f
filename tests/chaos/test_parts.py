"""The parts of a chaos run that need no service."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from app.settings import ROOT
from loadtest.benchmarks.chart import BUDGET, LIBRARY
from loadtest.chaos import report
from loadtest.chaos.actions import ACTIONS, LONG, SHORT
from loadtest.chaos.clock import Clock, ClockError
from loadtest.chaos.disks import DiskError, small_disk
from loadtest.chaos.ledger import CLOSED, REFUSED, Ledger
from loadtest.chaos.plan import sequence
from loadtest.chaos.proxy import Proxy, Streams
from loadtest.chaos.traffic import INQUIRIES, Mix, Traffic

SOON_SECONDS = 30.0


def test_the_same_seed_gives_the_same_sequence() -> None:
    names = list(ACTIONS)
    first = list(islice(sequence(names, 7), 100))
    assert first == list(islice(sequence(names, 7), 100))
    assert first != list(islice(sequence(names, 8), 100))


def test_no_action_comes_again_before_all_others_have_come() -> None:
    names = list(ACTIONS)
    assert len(names) == len(SHORT) + len(LONG)
    assert sorted(islice(sequence(names, 7), len(names))) == sorted(names)


def test_the_document_names_every_action() -> None:
    table = (ROOT / "docs" / "chaos.md").read_text().partition("| action |")[2]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(ACTIONS)


def test_a_write_that_was_not_acknowledged_is_sent_again_with_its_key() -> None:
    mix = Mix("run", 1)
    inquiry = next(request for request in iter(mix.next, None) if request.handler == INQUIRIES)
    mix.retry(inquiry)
    assert inquiry.key
    assert next(request for request in iter(mix.next, None) if request.handler == INQUIRIES) == inquiry


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1000):
        writer.write(chunk)
    writer.close()


@pytest.fixture
async def proxy(anyio_backend: object) -> AsyncIterator[Proxy]:
    """Yield a proxy in front of a server that sends back what it gets."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect() -> Streams:
        return await asyncio.open_connection("127.0.0.1", port)

    proxy = Proxy(connect)
    await proxy.start()
    yield proxy
    await proxy.stop()
    server.close()


async def test_a_proxy_passes_on_and_stalls_and_refuses(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    proxy.stall()
    writer.write(b"two")
    waiting = asyncio.create_task(reader.readexactly(3))
    _, held = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert not waiting.done()
    proxy.flow()
    assert await asyncio.wait_for(waiting, SOON_SECONDS) == b"two"
    proxy.refuse()
    assert await reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.start()
    reader, again = await asyncio.open_connection("127.0.0.1", proxy.port)
    again.write(b"three")
    assert await reader.readexactly(5) == b"three"
    for one in (writer, held, again):
        one.close()


async def test_a_proxy_in_front_of_no_server_closes_its_connections() -> None:
    async def connect() -> Streams:
        raise ConnectionRefusedError

    proxy = Proxy(connect)
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await reader.read() == b""
    writer.close()
    await proxy.stop()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_ledger_tells_what_was_sent_from_what_was_not() -> None:
    ledger = Ledger()
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    traffic = Traffic(server.sockets[0].getsockname()[1], Mix("run", 1), ledger)
    await traffic.burst(1)
    assert [failure.kind for failure in ledger.failures] == [CLOSED]
    assert ledger.unanswered.total() == 1
    server.close()
    await traffic.burst(1)
    assert [failure.kind for failure in ledger.failures] == [CLOSED, REFUSED]
    assert ledger.unanswered.total() == 1, "what could not be sent cannot have been counted"
    assert ledger.requests() == 2


def test_a_small_disk_can_be_filled_and_released(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk", 1) as disk:
            (disk.path / "before").write_bytes(b"1")
            disk.fill()
            with pytest.raises(OSError, match="No space left"):
                (disk.path / "after").write_bytes(b"1" * 4097)
            disk.release()
            (disk.path / "after").write_bytes(b"1" * 4097)
    except DiskError as error:
        pytest.skip(str(error))
    assert list((tmp_path / "disk").iterdir()) == [], "it was mounted"


async def test_the_clock_of_a_process_is_stepped(tmp_path: Path) -> None:
    try:
        clock = Clock(tmp_path)
    except ClockError as error:
        pytest.skip(str(error))
    program = "import sys, time\nfor _ in sys.stdin: print(int(time.time()), int(time.monotonic()), flush=True)"
    process = await asyncio.create_subprocess_exec(
        "python3", "-c", program, stdin=-1, stdout=-1, env={"PATH": "/usr/bin:/bin", **clock.environment}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen = []
    for offset in (0, 86_400, -86_400):
        clock.step(offset)
        process.stdin.write(b"\n")
        seen.append([int(word) for word in (await process.stdout.readline()).split()])
    process.stdin.close()
    await process.wait()
    wall, steady = zip(*seen, strict=True)
    assert wall[1] - wall[0] >= 86_400
    assert wall[2] < wall[0]
    assert steady[0] <= steady[1] <= steady[2], "the monotonic clock stays"


def test_a_chart_shows_actions_and_failures() -> None:
    summary = {
        "run": "r",
        "seed": 7,
        "verdict": "failed",
        "per_second": [
            {"at": 0, "answered": 100, "failed": 0, "longest": 0.1},
            {"at": 1, "answered": 90, "failed": 30, "longest": 0.1},
        ],
        "actions": [
            {"action": "reload", "at": 0.5, "seconds": 1.0, "recovery_seconds": 0.5, "violations": []},
            {
                "action": "kill_worker",
                "at": 1.5,
                "seconds": 1.0,
                "recovery_seconds": 0.5,
                "violations": ["a total fell"],
            },
        ],
    }
    drawn = report.chart(json.loads(json.dumps(summary)))
    texts = [element.text for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")]  # noqa: S314
    assert "Chaos run r, seed 7: failed" in texts
    assert {"reload", "kill_worker"} <= set(texts)
    assert BUDGET in drawn
    assert LIBRARY in drawn


def test_a_chart_of_a_run_without_requests_is_empty() -> None:
    assert "0 s" in report.chart({"run": "r", "seed": 7, "verdict": "failed", "per_second": [], "actions": []})
