"""An application of a stranger adopts the package with a small patch, and everything promised holds for it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.adoption.running import PATCH, WORKERS, Shop, running, send
from tests.process.service import wait_for
from tests.wheel.environment import Environment

MAX_LINES, MAX_FILES = 25, 2
ORDER, NEWS, SHIFTS = "/api/v1/orders/{article}", "/live/news", "/staff/shifts/{day}"
ROUND = [
    *[("POST", "/api/v1/orders/mask")] * 12,
    *[("POST", "/api/v1/orders/sarong")] * 8,
    *[("POST", "/api/v1/orders/boat")] * 2,
    *[("GET", NEWS)] * 4,
    *[("GET", "/staff/shifts/monday"), ("GET", "/staff/shifts/tuesday")] * 2,
]


def test_the_patch_is_small() -> None:
    lines = PATCH.read_text().splitlines()
    assert sum(line.startswith("+++ ") for line in lines) <= MAX_FILES
    changed = [line for line in lines if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
    assert len(changed) <= MAX_LINES


def check_totals(shop: Shop, rounds: int) -> None:
    """Compare every total with what `rounds` rounds make."""
    masks, sarongs = 12 * rounds, 8 * rounds
    orders = masks + sarongs
    # The background task of an answer ends after it.
    wait_for(lambda: shop.total("shop_confirmations_total") == orders, "the last confirmation")
    by_route = {
        (handler, status): shop.total("http_requests_total", handler=handler, status=status)
        for handler, status in ((ORDER, "201"), (ORDER, "404"), (NEWS, "200"), (SHIFTS, "200"))
    }
    assert by_route == {
        (ORDER, "201"): orders,
        (ORDER, "404"): 2 * rounds,
        (NEWS, "200"): 4 * rounds,
        (SHIFTS, "200"): 4 * rounds,
    }
    assert shop.total("http_request_duration_seconds_count", handler=ORDER) == orders + 2 * rounds
    assert shop.total("shop_orders_total", article="mask") == masks
    assert shop.total("shop_orders_total", article="sarong") == sarongs
    assert shop.total("shop_parcels_on_the_way") == orders
    assert shop.total("shop_price_euros_bucket", le="10.0") == sarongs
    assert shop.total("shop_price_euros_bucket", le="100.0") == orders
    assert shop.total("shop_price_euros_sum") == 64 * masks + 8 * sarongs
    assert shop.total("shop_weight_kilograms_count") == orders
    assert shop.total("shop_weight_kilograms_sum") == 0.5 * orders


def test_totals_of_all_workers_are_exact_through_kills_and_reloads(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str]
) -> None:
    with running(shop_directory, shop_environment, **stores) as shop:
        send(shop, ROUND)
        check_totals(shop, 1)
        for victim in shop.workers()[:2]:
            victim.kill()
            wait_for(lambda: not victim.is_running() and len(shop.workers()) == WORKERS, "a successor")  # noqa: B023
        send(shop, ROUND)
        check_totals(shop, 2)
        before = shop.workers()
        shop.process.send_signal(signal.SIGHUP)
        send(shop, ROUND)
        wait_for(lambda: shop.replaced(before), "the workers of the reload")
        send(shop, ROUND)
        check_totals(shop, 4)
        assert shop.total("shop_worker_exits_total", reason="killed") == 2
        assert shop.stop() == 0


def test_totals_are_exact_while_workers_are_recycled(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str]
) -> None:
    with running(shop_directory, shop_environment, MAX_REQUESTS="10", **stores) as shop:
        for _ in range(4):
            send(shop, ROUND)
        check_totals(shop, 4)
        wait_for(lambda: shop.total("shop_worker_exits_total", reason="max_requests") >= WORKERS, "recycled workers")
        assert shop.stop() == 0


@pytest.fixture
def traced(shop_directory: Path, shop_environment: Environment, stores: dict[str, str]) -> Any:
    """A shop that prints every span."""
    variables = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER_ARG": "1", **stores}
    with running(shop_directory, shop_environment, **variables) as shop:
        yield shop


def test_a_request_has_spans_of_sqlalchemy_redis_and_httpx_below_it(traced: Shop) -> None:
    send(traced, [("POST", "/api/v1/orders/mask")])
    assert traced.stop() == 0
    spans = traced.spans()
    (request,) = [span for span in spans if span["name"] == f"POST {ORDER}"]
    below = [
        span for span in spans if span["context"]["trace_id"] == request["context"]["trace_id"] and span is not request
    ]
    ids = {span["context"]["span_id"] for span in spans}
    assert {span["parent_id"] in ids for span in below} == {True}
    assert {"SELECT", "INCRBY", "GET"} <= {span["name"].split()[0] for span in below}
    queries = [span for span in below if span["attributes"].get("db.statement", "").startswith("SELECT articles.price")]
    assert len(queries) == 1


def test_lines_of_both_logging_libraries_are_redacted_json_with_the_trace_of_their_request(traced: Shop) -> None:
    send(traced, [("POST", "/api/v1/orders/mask")])
    wait_for(lambda: any(line["event"] == "confirmed" for line in traced.lines()), "the line of the background task")
    lines = {line["logger"]: line for line in traced.lines()}
    stdlib, structured = lines["shop.orders"], lines["shop.events"]
    assert stdlib["event"].startswith("ordered mask for ")
    assert structured["article"] == "mask"
    assert stdlib["service"] == structured["service"] == "shop"
    assert stdlib["trace_id"] == structured["trace_id"]
    assert "ayu@example.com" not in traced.output.read_text()


def test_websockets_and_events_work_as_before(traced: Shop) -> None:
    with connect(f"ws://127.0.0.1:{traced.port}/live/echo") as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
    answer = traced.get(NEWS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_request_in_flight_is_answered_when_the_service_is_told_to_end(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str]
) -> None:
    with running(shop_directory, shop_environment, **stores) as shop, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(shop.get, "/api/v1/orders/slow/2")
        wait_for(lambda: any(line["event"] == "slow request" for line in shop.lines()), "the request")
        assert shop.stop() == 0
        assert slow.result().json() == {"seconds": 2.0}


def test_a_reload_serves_new_code(shop_directory: Path, shop_environment: Environment, stores: dict[str, str]) -> None:
    with running(shop_directory, shop_environment, **stores) as shop:
        assert shop.get("/").json() == {"greeting": "welcome"}
        main = shop_directory / "shop" / "main.py"
        main.write_text(main.read_text().replace('"welcome"', '"selamat datang"'))
        before = shop.workers()
        os.kill(shop.process.pid, signal.SIGHUP)
        wait_for(lambda: shop.replaced(before), "the workers of the reload")
        assert {shop.get("/").json()["greeting"] for _ in range(20)} == {"selamat datang"}
