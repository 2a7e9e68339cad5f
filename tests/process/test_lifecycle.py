"""Processes and totals after the end of a worker, the exporter or the master."""

import os
import signal
import socket
from pathlib import Path

import anyio.to_thread
import httpx
import psutil
import pytest

from loadtest.fake_ai import fake_ai
from tests.plain_http import plain
from tests.process.service import Service, gone, service, wait_for

# Label and values of counters whose every value is known.
FROM_ZERO = {
    "worker_exits": [("reason", reason) for reason in ("killed", "stopped", "max_requests", "timeout")],
    "hook_errors": [("hook", hook) for hook in ("pre_fork", "post_fork", "child_exit", "on_exit")],
    "requests_shed": [("reason", reason) for reason in ("queue_full", "queue_timeout")],
    "log_lines_dropped": [("reason", reason) for reason in ("queue_full", "write_failed", "exit")],
}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_the_master_ends_every_process(
    tmp_path: Path, addresses: dict[str, str], signal_number: signal.Signals
) -> None:
    with service(tmp_path, **addresses) as running:
        family = running.family()
        assert len(family) == 4, "master, exporter, two workers"
        assert running.stop(signal_number) == 0
        wait_for(lambda: gone(family), "the end of every process")
        assert "Traceback" not in running.output


def test_ctrl_c_in_a_terminal_ends_the_embedded_servers_too(tmp_path: Path, scratch: Path) -> None:
    with service(tmp_path, ENVIRONMENT="development", DATA_DIRECTORY=str(scratch / "ctrl-c")) as running:
        family = running.family()
        names = {process.name() for process in family}
        assert {"postgres", "valkey-server"} <= names
        assert running.answers("/api/v1/destinations")
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.process.wait(30) == 0
        wait_for(lambda: gone(family), "the end of every process")


def test_nothing_outlives_a_killed_master(tmp_path: Path, scratch: Path) -> None:
    with service(tmp_path, ENVIRONMENT="development", DATA_DIRECTORY=str(scratch / "killed")) as running:
        family = running.family()
        running.master.kill()
        running.process.wait(30)
        wait_for(lambda: gone(family), "the end of every process")


def test_embedded_data_survives_a_restart(tmp_path: Path, scratch: Path) -> None:
    where = {"ENVIRONMENT": "development", "DATA_DIRECTORY": str(scratch / "restart")}
    review = {"rating": 4, "text": "Quiet before nine."}
    with service(tmp_path, **where) as running:
        path = f"{running.url}/api/v1/destinations/tanah-lot/reviews"
        wait_for(lambda: running.answers("/api/v1/destinations/tanah-lot"), "the catalogue")
        assert plain.post(path, json=review, timeout=10).status_code == 201
    with service(tmp_path, **where) as running:
        wait_for(lambda: running.answers("/api/v1/destinations/tanah-lot"), "the catalogue")
        assert running.get("/api/v1/destinations/tanah-lot/reviews").json()["items"][0]["text"] == review["text"]


def test_a_killed_worker_is_replaced_and_its_counts_stay(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        for _ in range(30):
            running.get("/health/live")
        victim = running.workers()[0]
        before = running.total("http_requests_total", handler="/health/live")
        assert before == 30
        victim.kill()
        wait_for(lambda: gone([victim]) and len(running.workers()) == 2, "the replacement")
        assert running.total("http_requests_total", handler="/health/live") == 30
        wait_for(lambda: running.total("baliblissed_worker_exits_total", reason="killed") == 1, "the account of it")
        assert running.total("baliblissed_workers", state="live") == 2


@pytest.mark.parametrize("when", ["it serves", "it boots"])
def test_a_worker_that_hangs_is_replaced_and_counted_as_timed_out(
    tmp_path: Path, addresses: dict[str, str], when: str
) -> None:
    # The boot of the replacement counts too: a busy machine needs time for it.
    with service(tmp_path, WORKER_TIMEOUT="8", **addresses) as running:
        wait_for(lambda: running.output.count("Application startup complete.") == 2, "both workers")
        victim = running.workers()[0]
        if when == "it boots":
            known = running.workers()
            victim.kill()
            victim = wait_for(lambda: [one for one in running.workers() if one not in known], "a successor")[0]
        victim.suspend()
        wait_for(lambda: gone([victim]) and len(running.workers()) == 2, "the replacement")
        assert wait_for(lambda: running.total("baliblissed_worker_exits_total", reason="timeout") == 1, "the account")
        assert running.answers("/health/ready")


def test_workers_can_be_added_and_taken_away(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        running.master.send_signal(signal.SIGTTIN)
        wait_for(lambda: running.total("baliblissed_workers", state="live") == 3, "a third worker")
        assert running.total("baliblissed_workers", state="configured") == 3
        running.master.send_signal(signal.SIGTTOU)
        wait_for(lambda: running.total("baliblissed_workers", state="live") == 2, "two workers again")
        assert running.total("baliblissed_workers", state="configured") == 2


def test_workers_leave_after_max_requests_and_the_reason_is_counted(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, MAX_REQUESTS="20", **addresses) as running:
        first = running.workers()
        sent = 0
        while not gone(first):
            wait_for(lambda: running.answers("/health/live"), "an answer")
            sent += 1
            assert sent < 2_000
        assert running.total("http_requests_total", handler="/health/live") == sent
        wait_for(lambda: running.total("baliblissed_worker_exits_total", reason="max_requests") >= 2, "the reasons")


def generations(running: Service) -> set[float]:
    return set(running.series("baliblissed_worker_generation").values())


def test_sighup_replaces_the_workers_and_keeps_the_totals(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        for _ in range(10):
            running.get("/health/live")
        first = running.workers()
        assert generations(running) == {0.0}
        running.master.send_signal(signal.SIGHUP)
        wait_for(lambda: gone(first) and len(running.workers()) == 2, "new workers")
        wait_for(lambda: generations(running) == {1.0}, "workers of after the reload only")
        assert running.total("http_requests_total", handler="/health/live") == 10
        assert wait_for(lambda: running.total("baliblissed_worker_exits_total", reason="stopped") == 2, "the reasons")
        assert running.answers("/health/ready")


def test_sigusr2_is_refused_and_the_service_goes_on(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        running.master.send_signal(signal.SIGUSR2)
        wait_for(lambda: "SIGUSR2 is not supported" in running.output, "the refusal")
        assert running.answers("/health/ready")
        assert running.total("baliblissed_workers", state="live") == 2


def test_a_fresh_service_exposes_each_series_before_its_first_event(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses, MAX_IN_FLIGHT="0") as running:
        wait_for(lambda: running.series("baliblissed_ready") == {(): 1.0}, "the first checks")
        up = running.series("baliblissed_dependency_up")
        assert up == {(("dependency", "database"),): 1.0, (("dependency", "redis"),): 1.0}
        for name in ("connections_open", "requests_in_flight", "requests_queued", "worker_generation"):
            assert {dict(labels)["worker"] for labels in running.series(f"baliblissed_{name}")} == {"0", "1"}
        assert (("worker", "exporter"),) in running.series("process_start_time_seconds")
        assert running.series("baliblissed_exporter_restarts_total") == {(): 0.0}
        for name, reasons in FROM_ZERO.items():
            found = running.series(f"baliblissed_{name}_total")
            assert found == {(label,): 0.0 for label in reasons}, name
        errors = {
            (labels["method"], labels["status"], labels["handler"]): value
            for labels, value in ((dict(key), value) for key, value in running.series("http_requests_total").items())
            if labels["status"][0] == "5"
        }
        assert set(errors.values()) == {0.0}
        for status in ("500", "503"):
            assert ("POST", status, "/api/v1/destinations/{slug}/reviews") in errors
            assert ("GET", status, "none") in errors


def test_a_killed_exporter_is_started_again_on_the_same_port(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        for _ in range(10):
            running.get("/health/live")
        victim = running.exporter()
        assert victim is not None
        victim.kill()
        wait_for(lambda: gone([victim]), "its end")
        # The socket is the master's: a scrape that comes now waits in the backlog and is answered.
        assert running.total("http_requests_total", handler="/health/live") == 10
        assert wait_for(lambda: running.total("baliblissed_exporter_restarts_total") == 1, "the account of it")
        replacement = running.exporter()
        assert replacement is not None
        assert replacement.pid != victim.pid


async def test_a_request_in_flight_is_finished_before_the_worker_ends(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    async with fake_ai() as fake:
        fake.delay = 2.0
        context = service(tmp_path, WEB_CONCURRENCY="1", AI_BASE_URL=fake.url, **addresses)
        running: Service = await anyio.to_thread.run_sync(context.__enter__)
        try:
            async with httpx.AsyncClient(timeout=20) as client, anyio.create_task_group() as group:
                answers: list[httpx.Response] = []

                async def ask() -> None:
                    url = f"{running.url}/api/v1/assistant/chat"
                    answers.append(await client.post(url, json={"message": "temples"}))

                group.start_soon(ask)
                await fake.arrived.wait()
                running.process.send_signal(signal.SIGTERM)
            assert [answer.status_code for answer in answers] == [200]
            assert await anyio.to_thread.run_sync(running.stop) == 0
        finally:
            await anyio.to_thread.run_sync(context.__exit__, None, None, None)


def test_workers_do_not_hold_the_masters_sockets(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        for worker in running.workers():
            listening = [c.laddr.port for c in worker.net_connections() if c.status == psutil.CONN_LISTEN]
            assert listening == [running.port]
        with socket.create_connection(("127.0.0.1", running.metrics_port)):
            assert running.exporter() is not None
