"""Every query of dashboards and documents is run on a real Prometheus that scraped the service with two workers."""

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.settings import ROOT
from loadtest.fake_ai import FakeAI, fake_ai
from tests.dashboards.boards import BOARDS, Board, label_query, targets, variables
from tests.dashboards.prometheus import JOB, Prometheus, program, prometheus
from tests.dashboards.traffic import BROKEN_HOOK, SETTINGS, Visitors
from tests.dashboards.values import unknown
from tests.process.service import service, wait_for

# Zero is correct here: at each scrape all configured workers are live, and the disk has space.
ZERO_IS_WELL = {"Workers missing", "Series lost"}


def substituted(text: str, board: Board) -> str:
    """Return the query as Grafana sends it with "All" selected and a $__rate_interval of 15 s."""
    values = {"__rate_interval": "15s", "job": JOB}
    values |= {item["name"]: item["allValue"] for item in variables(board) if item["name"] not in {"job", "datasource"}}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], text)


def shortcomings(server: Prometheus, board: Board, title: str, target: dict[str, Any], start: float) -> list[str]:
    """Return the problems of one query's result, one line each."""
    query = substituted(target["expr"], board)
    series = server.ask("query_range", query=query, start=start, end=time.time(), step="1s")["result"]
    numbers = [number for one in series for _, text in one["values"] if math.isfinite(number := float(text))]
    missing = [
        label
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        if not any(one["metric"].get(label) for one in series)
    ]
    if not numbers:
        return [f"{title}: no data: {query}"]
    if not any(numbers) and title not in ZERO_IS_WELL:
        return [f"{title}: nothing but 0: {query}"]
    if min(numbers) < 0:
        return [f"{title}: {min(numbers)} is no such quantity: {query}"]
    return [f"{title}: no series has the legend's label {label}: {query}" for label in missing]


def all_shortcomings(server: Prometheus, start: float) -> list[str]:
    """Return the problems of the results of all panel and variable queries, one line each."""
    found = []
    for name, board in BOARDS.items():
        for title, target in targets(board):
            found += [f"{name}: {line}" for line in shortcomings(server, board, title, target, start)]
        for item in variables(board):
            if item["type"] == "query":
                selector, label = label_query(item)
                if not server.values(substituted(selector, board), label, start):
                    found.append(f"{name}: ${item['name']} has nothing to choose from")
    return found


def documented() -> Iterator[tuple[str, str]]:
    """Yield each query of the documents with the document's name.

    A query starts in the first column; comment lines are skipped.
    """
    for document in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"^```promql\n(.+?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            for query in re.findall(r"^[^\s#].*\n(?:\s+.*\n)*", block, re.MULTILINE):
                yield document.name, query.strip()


def unanswered(server: Prometheus) -> list[str]:
    """Return a line for each query of the documents without data. A trailing `> number` is removed first."""
    queries = [(name, re.sub(r" > [\d.]+$", "", query)) for name, query in documented()]
    return [
        f"{name}: no data: {query}"
        for name, query in queries
        if not server.ask("query", query=query.replace('job="baliblissed"', f'job="{JOB}"'))["result"]
    ]


async def lived(directory: Path, fake: FakeAI, addresses: dict[str, str]) -> tuple[Counter[int], list[str]]:
    """Run the traffic; return the count of each status, and the problems of dashboards and documents afterwards."""
    configuration = directory / "gunicorn_conf.py"
    configuration.write_text(BROKEN_HOOK)
    with (
        service(directory, None, configuration, AI_BASE_URL=fake.url, **addresses, **SETTINGS) as running,
        prometheus(directory, running.metrics_url.removeprefix("http://").removesuffix("/metrics")) as server,
    ):
        start = time.time()
        wait_for(lambda: server.scrapes() >= 2, "two scrapes")
        visitors = Visitors(running, server, fake)
        await visitors.live()
        strangers = [f"not among the values of the code: {line}" for line in unknown(running.scrape())]
        return visitors.statuses, all_shortcomings(server, start) + unanswered(server) + strangers


def test_the_documents_have_the_queries_that_people_look_for() -> None:
    queries = [query for _, query in documented()]
    assert len([name for name, _ in documented() if name == "metrics.md"]) >= 7
    assert all(query.count("(") == query.count(")") for query in queries), "cut in the middle"


async def test_every_query_of_every_dashboard_and_document_returns_data(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    program()
    async with fake_ai() as fake:
        # gather() returns the exception, so that the fake closes its server normally on failure.
        addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        [result] = await asyncio.gather(lived(tmp_path, fake, addresses), return_exceptions=True)
    if isinstance(result, BaseException):
        raise result
    statuses, found = result
    assert statuses.keys() >= {200, 201, 404, 429, 502, 503}, statuses
    assert not found, "\n".join(found)
