"""Every query of dashboards and documents is run on a real Prometheus that scraped the service with two workers.

It evaluates the shipped rules, notifies a real Alertmanager, and scrapes itself and that one too.
"""

import asyncio
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.settings import ROOT
from loadtest.fake_ai import FakeAI, fake_ai
from monitoring.grafana.pictures.__main__ import draw
from monitoring.grafana.pictures.data import Source
from tests.dashboards import shipped_rules
from tests.dashboards.alertmanager import alertmanager
from tests.dashboards.boards import BOARDS, Board, annotations, label_query, targets, variables
from tests.dashboards.breakages import LIVE, broken
from tests.dashboards.clients import RUN, Clients, exposed
from tests.dashboards.elsewhere import COLLECTOR, KUBERNETES, SAMPLES, SPANS
from tests.dashboards.prometheus import ITSELF, JOB, Prometheus, program, prometheus
from tests.dashboards.traffic import BROKEN_HOOK, SETTINGS, Visitors
from tests.dashboards.values import alternatives, matchers, unknown
from tests.process.service import service, wait_for

# Zero is correct here: at each scrape all configured workers are live, no log line is dropped, no rule fails.
ZERO_IS_WELL = {
    *(
        "Workers missing",
        "Missing workers by instance",
        "Series lost",
        "Log lines dropped",
        "Rules that fail",
        "Notifications dropped",
        "Late tasks",
    ),
    *("Burn rate of readiness, fast windows", "Burn rate of readiness, slow windows", "Failed share of readiness"),
    *("Burn rate of ai-latency, fast windows", "Burn rate of ai-latency, slow windows", "Failed share of ai-latency"),
}
PICTURED = "two workers under the traffic and faults of tests/dashboards/traffic.py, scraped each second"
# A budget that is overspent.
NEGATIVE_IS_WELL = {"Budget left", "Budget left over time"}
# Programs that do not run here, and where their samples are judged instead.
ELSEWHERE = {
    COLLECTOR: "test_elsewhere.py runs one where it is built; it is no package",
    KUBERNETES: "it needs a cluster",
    SPANS: "Prometheus 2.42, with which the tests have to run, does not receive OTLP",
}


def substituted(text: str, board: Board) -> str:
    """Return the query as Grafana sends it with "All" selected and a $__rate_interval of 15 s."""
    values = {"__rate_interval": "15s", "job": JOB}
    chosen = (item for item in variables(board) if item["name"] not in {"job", "datasource"})
    values |= {item["name"]: item.get("allValue") or RUN for item in chosen}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], text)


def elsewhere(query: str) -> bool:
    """Return whether a query asks for samples of a program that does not run here."""
    names = set(re.findall(r"[a-zA-Z_:][\w:]*", query))
    return any(name in SAMPLES and SAMPLES[name].program in ELSEWHERE for name in names) or 'job="otel' in query


def absent(server: Prometheus, query: str) -> Iterator[str]:
    """Return the values in the matchers of a query that no series has had."""
    for sample, label, operator, value in sorted(matchers(query)):
        for one in alternatives(value) if "~" in operator else [value]:
            selector = f'{sample}{{{label}{"=~" if "~" in operator else "="}"{one}"}}'
            if not server.ask("query", query=f"count(last_over_time({selector}[1h]))")["result"]:
                yield f"no series has had {label} {one}: {query}"


def shortcomings(server: Prometheus, board: Board, title: str, target: dict[str, Any], start: float) -> list[str]:
    """Return the problems of one query's result, one line each."""
    query = substituted(target["expr"], board)
    if elsewhere(query):
        return []
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
    if min(numbers) < 0 and title not in NEGATIVE_IS_WELL:
        return [f"{title}: {min(numbers)} is no such quantity: {query}"]
    lines = [f"{title}: no series has the legend's label {label}: {query}" for label in missing]
    return lines + [f"{title}: {line}" for line in absent(server, target["expr"])]


def all_shortcomings(server: Prometheus, start: float) -> list[str]:
    """Return the problems of the results of all panel and variable queries, one line each."""
    found = []
    for name, board in BOARDS.items():
        for title, target in targets(board):
            found += [f"{name}: {line}" for line in shortcomings(server, board, title, target, start)]
        for one in annotations(board):
            target = {"expr": one["expr"], "legendFormat": ""}
            found += [f"{name}: {line}" for line in shortcomings(server, board, one["name"], target, start)]
        for item in variables(board):
            if item["type"] == "query":
                selector, label = label_query(item)
                if not elsewhere(selector) and not server.values(substituted(selector, board), label, start):
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
    """Return a line for each query of the documents without data. A comparison with a number at its end is removed.

    A query that compares series with one another looks for those that lag behind, and may find none.
    """
    queries = [
        (name, re.sub(r" (?:>|<|==) [\d.]+$", "", query)) for name, query in documented() if " < on " not in query
    ]
    return [
        f"{name}: no data: {query}"
        for name, query in queries
        if not server.ask("query", query=query.replace('job="baliblissed"', f'job="{JOB}"'))["result"]
    ]


def unnoticed(server: Prometheus, start: float) -> list[str]:
    """Return a line for each query, broken on purpose, in whose result nothing is found wrong."""
    lines = []
    for name, before, after in LIVE:
        board, title, target = broken(BOARDS[name], before, after)
        if not shortcomings(server, board, title, target, start):
            lines.append(f"{name}: {title}: nothing is found wrong with {target['expr']}")
    return lines


@contextmanager
def watched(directory: Path, target: str, clients: Clients) -> Iterator[Prometheus]:
    """Yield a Prometheus with the shipped rules that scrapes `target`, itself, an Alertmanager and `clients`."""
    rules = {"rule_files": [str(shipped_rules.write(directory))]}
    with alertmanager(directory) as receiver:
        to = [{"static_configs": [{"targets": [receiver, "127.0.0.1:1"]}]}]  # nothing listens at the second
        others = {"prometheus": ITSELF, "alertmanager": receiver, "loadtest": clients.address}
        settings: dict[str, Any] = {"others": others, "alerting": {"alertmanagers": to}, **rules}
        with prometheus(directory, target, labels={"pod": "backend-0"}, **settings) as server:
            yield server


async def lived(directory: Path, fake: FakeAI, addresses: dict[str, str]) -> tuple[Counter[int], list[str]]:
    """Run the traffic; return the count of each status, and the problems of dashboards and documents afterwards."""
    configuration = directory / "gunicorn_conf.py"
    configuration.write_text(BROKEN_HOOK)
    with (
        service(directory, None, configuration, AI_BASE_URL=fake.url, **addresses, **SETTINGS) as running,
        exposed() as clients,
        watched(directory, running.metrics_url.removeprefix("http://").removesuffix("/metrics"), clients) as server,
    ):
        start = time.time()
        wait_for(lambda: server.scrapes() >= 2, "two scrapes")
        visitors = Visitors(running, server, fake, clients, addresses)
        await visitors.live()
        strangers = [f"not among the values of the code: {line}" for line in unknown(running.scrape())]
        if output := os.environ.get("PICTURES"):
            draw(Source(server.url, start, time.time(), "15s"), Path(output), PICTURED)
        found = all_shortcomings(server, start) + unnoticed(server, start) + unanswered(server) + strangers
        return visitors.statuses, found


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
