"""An application of a stranger adopts the package with a small patch, and everything promised holds for it."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.adoption.running import PATCH, TIMEOUT, WORKERS, Ledger, Shop, attempt, route_of, running, send
from tests.adoption.spans import Spans, attribute
from tests.adoption.totals import COMPLAINT, MASK, ORDER, PAYROLL, REFUND, ROUND, check_totals
from tests.monitoring.requests.sentry_receiver import Receiver
from tests.plain_http import plain
from tests.process.service import wait_for
from tests.wheel.environment import Environment

MAX_LINES, MAX_FILES = 25, 2
STARTED = "Application startup complete."


def test_the_patch_is_small() -> None:
    lines = PATCH.read_text().splitlines()
    assert sum(line.startswith("+++ ") for line in lines) <= MAX_FILES
    changed = [line for line in lines if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
    assert len(changed) <= MAX_LINES


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


def ask_until(ended: threading.Event, shop: Shop) -> tuple[Ledger, Ledger]:
    """Send what does not fail, until `ended` is set; return the answers, and the requests without one (status 0)."""
    answered, without = Ledger(), Ledger()
    while not ended.is_set():
        for method, path in ROUND:
            # A failure is counted after its answer, once the error has passed Sentry: a kill may come between.
            if (method, path) not in (REFUND, PAYROLL):
                status = attempt(shop, method, path)
                (answered if status else without)[method, route_of(path), str(status)] += 1
    return answered, without


def by_route(ledger: Ledger) -> Counter[str]:
    found = Counter[str]()
    for (_, route, _), requests in ledger.items():
        found[route] += requests
    return found


def test_kills_under_traffic_lose_no_answer_from_the_totals(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str]
) -> None:
    with running(shop_directory, shop_environment, **stores) as shop:
        ended, without = threading.Event(), Ledger()
        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(ask_until, ended, shop) for _ in range(8)]
            try:
                for victim in shop.workers():
                    enough = shop.answers().total() + 50
                    wait_for(lambda: shop.answers().total() >= enough, "traffic")  # noqa: B023
                    victim.kill()
                    wait_for(lambda: not victim.is_running() and len(shop.workers()) == WORKERS, "a successor")  # noqa: B023
            finally:
                ended.set()
        for client in clients:
            answered, broken = client.result()
            shop.ledger.update(answered)
            without.update(broken)
        counted = shop.answers()
        assert shop.ledger - counted == Ledger()
        # A worker counts before it hands over the last byte, so it may have counted what a kill has cut off.
        assert by_route(counted - shop.ledger) - by_route(without) == Counter()
        assert shop.total("shop_worker_exits_total", reason="killed") == WORKERS
        assert shop.stop() == 0


def test_the_doctor_names_the_metrics_that_several_processes_lose(
    shop_directory: Path, shop_environment: Environment
) -> None:
    done = shop_environment.run("-m", "prefork_observability", "doctor", "shop.main:app", cwd=shop_directory)
    assert done.returncode == 0, done.stdout + done.stderr
    lost = [line for line in done.stdout.splitlines() if line.startswith("warning lost-kind: ")]
    assert [line.partition(";")[0] for line in lost] == [
        "warning lost-kind: Info metrics: shop_address (shop.metrics.ADDRESS)",
        "warning lost-kind: Enum metrics: shop_door (shop.metrics.DOOR)",
    ]


@pytest.fixture
def traced(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str], exported: Spans
) -> Iterator[Shop]:
    """Yield a shop that exports every span."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": exported.endpoint, "OTEL_TRACES_SAMPLER_ARG": "1", **stores}
    with running(shop_directory, shop_environment, **variables) as shop:
        yield shop


def test_a_request_has_spans_of_sqlalchemy_redis_and_httpx_below_it(traced: Shop, exported: Spans) -> None:
    send(traced, [MASK])
    assert traced.stop() == 0
    (request,) = exported.named(f"POST {ORDER}")
    below = exported.below(request)
    assert {"SELECT", "INCRBY", "GET"} <= {span.name.split()[0] for span in below}
    queries = [span for span in below if attribute(span, "db.statement").startswith("SELECT articles.price")]
    assert len(queries) == 1


def test_lines_of_every_logging_library_are_redacted_json_with_the_ids_of_their_request(traced: Shop) -> None:
    send(traced, [MASK])
    wait_for(lambda: any(line["event"] == "confirmed" for line in traced.lines()), "the line of the background task")
    (access,) = [line for line in traced.lines() if line.get("route") == ORDER]
    lines = [line for line in traced.lines() if line.get("request_id") == access["request_id"]]
    lines.remove(access)
    assert {(line["logger"], line["event"], line["level"]) for line in lines} == {
        ("shop.orders", "ordered mask for [email]", "info"),  # the standard library
        ("shop.orders", "packed for [email]", "info"),  # loguru, which takes the module's name
        ("shop.events", "confirmed", "info"),  # structlog, in a background task
    }
    fields = {line["event"]: line for line in lines}
    assert fields["packed for [email]"]["article"] == fields["confirmed"]["article"] == "mask"
    assert {(line["service"], line["trace_id"]) for line in lines} == {("shop", access["trace_id"])}
    assert "ayu@example.com" not in traced.output.read_text()


def test_sentry_gets_each_error_once_and_the_applications_own_handler_answers(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str], sentry: Receiver
) -> None:
    with running(shop_directory, shop_environment, **stores) as shop:
        refund = plain.post(shop.url + REFUND[1], timeout=TIMEOUT)
        assert (refund.status_code, refund.json()) == (500, {"sorry": "NotImplementedError"})
        assert shop.get(PAYROLL[1]).text == "Internal Server Error", "the mounted application has no handler"
        assert plain.post(shop.url + COMPLAINT[1], timeout=TIMEOUT).status_code == 202
        assert shop.stop() == 0  # Sentry sends what it has before its process ends
        failures = [line for line in shop.lines() if line["event"] == "unhandled_error"]
        assert failures[0]["request_id"] == refund.headers["x-request-id"]
        assert "ayu@example.com" not in shop.output.read_text()
    errors = [value["type"] for event in sentry.events for value in event.get("exception", {}).get("values", [])]
    assert Counter(errors) == {"NotImplementedError": 1, "ArithmeticError": 1}
    messages = [event["logentry"]["formatted"] for event in sentry.events if "logentry" in event]
    assert [message.rpartition(" - ")[2] for message in messages] == ["complaint about order 7"]


def test_websockets_and_events_work_as_before(traced: Shop) -> None:
    with connect(f"ws://127.0.0.1:{traced.port}/live/echo") as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
    answer = traced.get("/live/news")
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
        # A worker that still imports the application would read a file that the test is writing.
        wait_for(lambda: [line["event"] for line in shop.lines()].count(STARTED) == WORKERS, "every worker")
        main = shop_directory / "shop" / "main.py"
        main.write_text(main.read_text().replace('"welcome"', '"selamat datang"'))
        before = shop.workers()
        os.kill(shop.process.pid, signal.SIGHUP)
        wait_for(lambda: shop.replaced(before), "the workers of the reload")
        assert {shop.get("/").json()["greeting"] for _ in range(20)} == {"selamat datang"}
