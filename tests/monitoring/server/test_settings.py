"""gunicorn's settings that a service gives: mapped to options, passed on, or refused."""

import re
from typing import Any

import pytest
from gunicorn.workers.sync import SyncWorker

from app.monitoring import Observability, Options, OptionsError, logging
from app.monitoring.doctor import Finding, Situation
from app.monitoring.metrics.registry import current_namespace, registry
from app.monitoring.server import configuration, master
from app.monitoring.server.arbiter import RollingArbiter
from app.monitoring.server.logger import GunicornLogger
from app.monitoring.server.settings import addresses, check_class, merged
from app.monitoring.server.worker import Worker
from tests.monitoring.server.masters import master_with

OURS = "app.monitoring.server.worker.Worker"


class OwnWorker(Worker):
    """A worker made from the package's."""


@pytest.mark.parametrize(
    ("setting", "value", "option"),
    [
        ("workers", 8, "workers"),
        ("max_requests", 1000, "max_requests"),
        ("max_requests_jitter", 50, "max_requests_jitter"),
        ("timeout", 77, "worker_timeout"),
        ("graceful_timeout", 9, "graceful_timeout"),
        ("keepalive", 5, "keepalive"),
        ("forwarded_allow_ips", "10.0.0.7", "forwarded_allow_ips"),
    ],
)
def test_a_setting_becomes_the_option_of_the_same_meaning(setting: str, value: object, option: str) -> None:
    options, rest = merged(Options(), "shop:app", {setting: value, "backlog": 7})
    assert (getattr(options, option), rest) == (value, {"backlog": 7})


@pytest.mark.parametrize(
    ("bind", "host", "port", "rest"),
    [
        ("0.0.0.0:8100", "0.0.0.0", 8100, {}),  # noqa: S104
        (["[::1]:8100"], "::1", 8100, {}),
        (":8100", "", 8100, {}),
        ("unix:/run/shop.sock", "127.0.0.1", 8000, {"bind": ["unix:/run/shop.sock"]}),
        (
            "unix:/run/shop.sock, 10.0.0.7:81",
            "10.0.0.7",
            81,
            {"bind": ["unix:/run/shop.sock", "10.0.0.7:81"]},
        ),
    ],
)
def test_an_address_becomes_host_and_port(bind: object, host: str, port: int, rest: dict[str, object]) -> None:
    options, left = merged(Options(), "shop:app", {"bind": bind})
    assert (options.host, options.port, left) == (host, port, rest)


def test_only_addresses_of_tcp_are_checked_for_being_free() -> None:
    assert addresses(["unix:/run/shop.sock", "fd://3", "10.0.0.7:81", "[::1]:82"]) == [("10.0.0.7", 81), ("::1", 82)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers=0: want a number from 1 to 256"),
        ({"timeout": 0}, "timeout=0: worker_timeout=0: want a number from 1 to 3600"),
        ({"bind": "127.0.0.1:http"}, "bind=['127.0.0.1:http']: want host:port, or a list of addresses"),
        ({"bind": 8000}, "bind=8000: want host:port, or a list of addresses"),
        ({"bind": "127.0.0.1:0"}, "bind=('127.0.0.1', 0): port=0: want a number from 1 to 65535"),
        (
            {"wsgi_app": "other:app"},
            "wsgi_app='other:app': want the application as the first argument, here 'shop:app'",
        ),
        (
            {"preload_app": True},
            "preload_app=True: want False, since each worker makes the application; give libraries",
        ),
        ({"preload_app": "true"}, "preload_app='true': want False"),
        ({"wokers": 4}, "wokers=4: no such setting of gunicorn; the closest are workers, "),
        ({"port": 8100}, "port=8100: no such setting of gunicorn; it is an option of Observability"),
    ],
)
def test_a_wrong_setting_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(message)):
        merged(Options(), "shop:app", given)


@pytest.mark.parametrize("preload_app", [False, "false", "perhaps"])
def test_settings_that_change_nothing_or_that_gunicorn_refuses_itself_are_no_fault(preload_app: object) -> None:
    given = {"preload_app": preload_app, "wsgi_app": "shop:app"}
    assert merged(Options(), "shop:app", given) == (Options(), given)


@pytest.mark.parametrize(
    ("host", "metrics_host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("127.0.0.1", "::"),
        ("", "10.0.0.7"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_one_port_for_the_service_and_the_exporter_is_refused(host: str, metrics_host: str) -> None:
    options = Options(host=host, port=8100, metrics_host=metrics_host, metrics_port=8100)
    with pytest.raises(OptionsError, match="METRICS_PORT=8100: want a port other than PORT=8100"):
        merged(options, "shop:app", {})
    with pytest.raises(OptionsError, match="METRICS_PORT=8100: want a port other than PORT=8100"):
        merged(Options(metrics_host=metrics_host, metrics_port=8100), "shop:app", {"bind": ["unix:s", options.bind]})


def test_one_port_at_two_addresses_is_no_fault() -> None:
    options = Options(host="10.0.0.7", port=8100, metrics_host="127.0.0.1", metrics_port=8100)
    assert merged(options, "shop:app", {}) == (options, {})


@pytest.mark.parametrize("given", [Worker, OwnWorker, OURS, f"{__name__}.OwnWorker"])
def test_the_packages_worker_and_one_made_from_it_are_accepted(given: object) -> None:
    check_class("worker_class", given, Worker)


@pytest.mark.parametrize("given", ["sync", "uvicorn_worker.UvicornWorker", SyncWorker, "no.such.Worker", 7])
def test_another_worker_is_refused(given: object) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"worker_class={given!r}: want a subclass of {OURS}")):
        check_class("worker_class", given, Worker)


def test_another_logger_is_refused() -> None:
    with pytest.raises(OptionsError, match=rf"logger_class=.*: want a subclass of {GunicornLogger.__module__}\."):
        check_class("logger_class", "gunicorn.glogging.Logger", GunicornLogger)


@pytest.fixture
def observability(monkeypatch: pytest.MonkeyPatch) -> Observability:
    monkeypatch.setattr(Observability, "_current", None)
    monkeypatch.setattr(Observability, "_under_gunicorn", False)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(logging, "configure", lambda **_: None)
    return Observability("shop", namespace=current_namespace(), max_series=registry().max_series)


@pytest.mark.parametrize("given", [{"worker_class": "sync"}, {"logger_class": "gunicorn.glogging.Logger"}])
def test_a_class_that_switches_the_package_off_is_refused(observability: Observability, given: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match="want a subclass of"):
        observability.gunicorn("shop:app", **given)


def test_settings_reach_gunicorn_the_application_and_the_doctor(
    observability: Observability, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def examine_surroundings(situation: Situation) -> list[Finding]:
        seen.append(situation)
        return []

    monkeypatch.setattr(configuration, "examine_surroundings", examine_surroundings)
    for name in ("note_build", "start_exporter"):
        monkeypatch.setattr(master, name, lambda *_: None)
    monkeypatch.setattr(configuration, "import_before_forks", lambda *_: None)
    monkeypatch.setattr(RollingArbiter, "adopt", lambda *_: None)
    monkeypatch.setattr(
        master,
        "take_ports_and_directory",
        lambda **given: seen.append((given["api"], given["directory"])),
    )
    settings = observability.gunicorn(
        "shop:app", bind="0.0.0.0:8100", workers=8, forwarded_allow_ips="10.0.0.7", worker_class=OwnWorker
    )
    assert {name: settings[name] for name in ("bind", "workers", "forwarded_allow_ips", "worker_class")} == {
        "bind": "0.0.0.0:8100",
        "workers": 8,
        "forwarded_allow_ips": "10.0.0.7",
        "worker_class": OwnWorker,
    }
    assert Observability.current().options.forwarded_allow_ips == "10.0.0.7", "the proxy middleware takes it from there"
    settings["on_starting"](master_with(settings))
    situation, claimed = seen
    assert isinstance(situation, Situation)
    assert (situation.bind, situation.workers, situation.forwarded_allow_ips) == (("0.0.0.0:8100",), 8, "10.0.0.7")
    assert claimed == ([("0.0.0.0", 8100)], observability.options.directory)  # noqa: S104
    assert observability.options.directory.name.endswith("-8100")
