"""From a dot on a latency panel to its trace: a real Prometheus scrapes exemplars of traces that were exported."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.dashboards.boards import BOARDS, panels
from tests.dashboards.prometheus import Prometheus, program, prometheus
from tests.dashboards.test_queries import substituted
from tests.plain_http import plain
from tests.process.service import Service, service, wait_for

API = "/api/v1"


def dotted() -> Iterator[tuple[str, str, str]]:
    """Yield dashboard, panel and query of every query that requests exemplars."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                if target.get("exemplar"):
                    yield name, panel["title"], substituted(target["expr"], board)


def test_every_latency_panel_asks_for_exemplars_once() -> None:
    wanted = [
        (name, panel["title"])
        for name in ("ai-service", "fastapi-overview")
        for panel in panels(BOARDS[name])
        if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["unit"] == "s"
    ]
    # Which instance or version is slow is asked of all requests, and not of those with a trace.
    wanted = [(name, title) for name, title in wanted if title not in {"P95 by instance", "P95 by version"}]
    assert [(name, title) for name, title, _ in dotted()] == wanted
    assert {title for _, title in wanted} == {"Latency", "P95 by handler", "P95 by operation"}


def found(server: Prometheus, query: str, start: float) -> list[dict[str, Any]]:
    """Return the exemplars of a query's series."""
    series = server.ask("query_exemplars", query=query, start=start, end=time.time())
    return [exemplar for one in series for exemplar in one["exemplars"]]


def visit(running: Service) -> None:
    """Send a request of every kind that a latency panel shows."""
    assert running.get(f"{API}/destinations").status_code == 200
    answer = plain.post(f"{running.url}{API}/assistant/chat", json={"message": "A temple by the sea?"}, timeout=20)
    assert answer.status_code == 200


def test_a_dot_of_every_latency_panel_leads_to_a_trace_that_was_exported(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    program()
    tracing = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER_ARG": "1"}
    with (
        service(tmp_path, **addresses, **tracing) as running,
        prometheus(tmp_path, f"127.0.0.1:{running.metrics_port}", "--enable-feature=exemplar-storage") as server,
    ):
        start = time.time()
        for name, title, query in dotted():

            def seen(query: str = query) -> list[dict[str, Any]]:
                visit(running)
                return found(server, query, start)

            for exemplar in wait_for(seen, f"an exemplar of {name}: {title}"):
                assert exemplar["labels"].keys() == {"trace_id", "span_id"}
                assert 0 < float(exemplar["value"]) < 30
                exported = f'"trace_id": "0x{exemplar["labels"]["trace_id"]}"'
                wait_for(partial(_has, running, exported), f"the export of {exported}")


def _has(running: Service, text: str) -> bool:
    return text in running.output
