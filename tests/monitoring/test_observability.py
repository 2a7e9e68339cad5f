"""The object that configures gunicorn, instruments an application and makes metrics."""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.monitoring import CardinalityError, Observability, OptionArguments, logging
from app.monitoring.metrics.registry import current_namespace, registry
from app.monitoring.redaction import configure as configure_redaction
from app.monitoring.redaction import redact_text
from app.monitoring.server import configuration, master
from app.monitoring.server.arbiter import RollingArbiter
from tests.monitoring.multiprocess import simulated
from tests.monitoring.server.masters import master_with

FREE = "an_observability_test"


@pytest.fixture(autouse=True)
def _current_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observability, "_current", None)


@pytest.fixture
def observability() -> Observability:
    return Observability("shop", namespace=current_namespace(), max_series=registry().max_series)


@pytest.fixture
def made() -> Iterator[list[Any]]:
    """Yield a list of metrics that are removed from the registry after the test."""
    kept: list[Any] = []
    yield kept
    for metric in kept:
        registry().unregister(metric)


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


def test_the_current_object_is_the_one_that_was_made_last(observability: Observability) -> None:
    assert Observability.current() is observability
    later = Observability("later")
    assert Observability.current() is later


def test_without_one_the_current_object_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-the-environment")
    assert Observability.current().options.service == "from-the-environment"


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "summary"])
def test_metrics_are_bounded_and_carry_the_namespace(observability: Observability, made: list[Any], kind: str) -> None:
    metric = getattr(observability, kind)(f"{FREE}_{kind}", "A test.", ["place"])
    made.append(metric)
    assert metric._name == f"{current_namespace()}_{FREE}_{kind}"
    assert metric in registry()._collector_to_names
    assert metric not in REGISTRY._collector_to_names
    with pytest.raises(CardinalityError, match="user_id"):
        getattr(observability, kind)(f"{FREE}_forbidden", "A test.", ["user_id"])


def test_a_gauge_counts_up_and_down_and_is_the_sum_of_living_workers(observability: Observability) -> None:
    with simulated.scene() as scene:
        for steps in (1, 2):
            with scene.worker().at_work():
                gauge = observability.gauge(f"{FREE}_open_carts", "A test.")
                registry().unregister(gauge)
                gauge.set(10 * steps)
                gauge.inc(steps)
                gauge.dec(1)
                with gauge.track_inprogress():
                    pass
        found = scene.samples()
    assert found == {simulated.series(gauge._name): 10 + 21}


def test_metrics_under_another_namespace_are_refused_once_there_are_some(observability: Observability) -> None:
    assert observability.registry is registry()
    with pytest.raises(RuntimeError, match="set the namespace 'other' before"):
        _ = Observability("other", namespace="other").registry


def test_hooks_of_the_service_are_called_beside_the_packages(
    observability: Observability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(logging, "configure", lambda **_: None)
    calls: list[str] = []
    steps = ("take_ports_and_directory", "note_build", "start_exporter", "supervise_exporter")
    for name in (*steps, "after_exit", "stop_exporter"):
        monkeypatch.setattr(master, name, lambda *_, name=name, **__: calls.append(name))
    monkeypatch.setattr(configuration, "import_before_forks", lambda *_: calls.append("preload"))
    monkeypatch.setattr(RollingArbiter, "adopt", lambda *_: calls.append("adopt"))
    settings = observability.gunicorn(
        "shop.main:app",
        on_starting=lambda _server: calls.append("own start"),
        child_exit=lambda _server, _worker: calls.append("own child_exit"),
        on_exit=lambda _server: calls.append("own end"),
        post_worker_init=len,  # gunicorn wants one parameter
        timeout=77,
    )
    assert (settings["wsgi_app"], settings["timeout"], settings["post_worker_init"]) == ("shop.main:app", 77, len)
    server = master_with(settings)
    settings["on_starting"](server)
    settings["child_exit"](server, None)
    settings["on_exit"](server)
    assert calls == [
        *("take_ports_and_directory", "note_build", "own start", "start_exporter", "preload", "adopt"),
        "supervise_exporter",
        *("after_exit", "own child_exit"),
        *("own end", "stop_exporter"),
    ]


def test_a_hook_that_raises_does_not_end_the_service(
    observability: Observability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(logging, "configure", lambda **_: None)

    def broken(_server: object, _worker: object) -> None:
        raise RuntimeError("a hook")

    hook = observability.gunicorn("shop.main:app", pre_fork=broken)["pre_fork"]
    assert len(inspect.signature(hook).parameters) == 2, "gunicorn counts them"
    monkeypatch.setattr(master, "before_fork", lambda *_: None)
    hook(None, None)


async def test_an_instrumented_application_keeps_its_lifespan_and_its_state(observability: Observability) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        seen.append("start")
        yield {"kept": "yes"}
        seen.append("end")

    app = FastAPI(lifespan=lifespan)
    assert observability.instrument(app) is app
    async with app.router.lifespan_context(app) as state:
        assert (seen, state) == (["start"], {"kept": "yes"})
    assert seen == ["start", "end"]


async def test_metrics_are_served_before_a_route_that_matches_every_path(observability: Observability) -> None:
    app = FastAPI()

    @app.get("/{rest:path}")
    async def everything(rest: str) -> str:
        return rest

    observability.instrument(app)
    async with client_of(app) as client:
        assert (await client.get("/else")).json() == "else"
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "/metrics" not in (await client.get("/openapi.json")).text


@pytest.mark.parametrize("under_gunicorn", [False, True])
def test_an_instrumented_application_is_redacted_by_its_options_unless_gunicorns_master_has_set_the_rules(
    monkeypatch: pytest.MonkeyPatch,
    under_gunicorn: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(Observability, "_under_gunicorn", under_gunicorn)
    given: OptionArguments = {
        "namespace": current_namespace(),
        "max_series": registry().max_series,
        "redacted_keys": ("loyalty_number",),
    }
    try:
        Observability("shop", **given).instrument(FastAPI())
        assert redact_text("loyalty_number=7") == (
            "loyalty_number=7" if under_gunicorn else "loyalty_number=[redacted]"
        )
    finally:
        configure_redaction()


async def test_an_application_of_starlette_is_observed_too(observability: Observability) -> None:
    async def things(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["name"])

    app = Starlette(routes=[Route("/things/{name}", things)])
    assert observability.instrument(app) is app
    before = count("/things/{name}")
    async with client_of(app) as client:
        answer = await client.get("/things/kite")
        exposed = await client.get("/metrics")
    assert (answer.text, answer.headers.get("x-request-id") is not None) == ("kite", True)
    assert exposed.status_code == 200
    assert count("/things/{name}") == before + 1


def count(handler: str) -> float:
    return (
        registry().get_sample_value("http_requests_total", {"method": "GET", "status": "200", "handler": handler})
        or 0.0
    )


def test_other_applications_are_refused_with_a_line(observability: Observability) -> None:
    with pytest.raises(TypeError, match=r"instrument\(function\): want a FastAPI or Starlette application"):
        observability.instrument(client_of)  # type: ignore[type-var]
    other = Observability("shop", namespace=current_namespace(), tracing="instrumentation")
    with pytest.raises(TypeError, match="tracing='instrumentation': want a FastAPI application"):
        other.instrument(Starlette())


async def test_an_application_that_has_started_is_refused(observability: Observability) -> None:
    app = FastAPI()
    async with client_of(app) as client:
        await client.get("/")
    with pytest.raises(RuntimeError, match="the application has started"):
        observability.instrument(app)


def things(*paths: str) -> FastAPI:
    """Return an application whose routes send empty responses."""
    app = FastAPI()
    for path in paths:
        app.add_api_route(path, lambda: None)
    return app


async def test_requests_are_counted_as_the_arguments_of_instrument_say(observability: Observability) -> None:
    def counts() -> list[float]:
        series = (("200", "/left-out"), ("200", "/grouped"), ("2xx", "/grouped"), ("404", "none"), ("4xx", "none"))
        return [
            registry().get_sample_value("http_requests_total", {"method": "GET", "status": status, "handler": handler})
            or 0.0
            for status, handler in series
        ]

    app = things("/left-out", "/grouped")
    observability.instrument(
        app, excluded_handlers=["^/left"], should_group_status_codes=True, should_ignore_untemplated=True
    )
    before = counts()
    async with client_of(app) as client:
        for path in ("/left-out", "/grouped", "/no/such/place"):
            await client.get(path)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [0, 0, 1, 0, 0]


async def test_a_function_that_is_added_is_called_for_each_counted_request(observability: Observability) -> None:
    early: list[str] = []
    late: list[str] = []
    assert observability.add(lambda info: early.append(info.modified_handler), None) is observability
    app = observability.instrument(things("/early", "/late"))
    async with client_of(app) as client:
        await client.get("/early")
        observability.add(lambda info: late.append(info.modified_handler))
        await client.get("/late")
        await client.get("/metrics")
    assert (early, late) == (["/early", "/late"], ["/late"])

    async def waits(_info: object) -> None:
        """Do nothing; never called."""

    with pytest.raises(TypeError, match=r"add\(waits\): .+ want a plain function"):
        observability.add(waits)


async def test_the_state_of_the_application_is_left_alone(observability: Observability) -> None:
    app = things("/x")
    app.state.instrumentator = "the application's own"
    observability.instrument(app)
    assert vars(app.state) == {"_state": {"instrumentator": "the application's own"}}


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("should_round_latency_decimals", ValueError, "has no effect here: a histogram needs no rounding"),
        ("excluded_handler", TypeError, "the Instrumentator has no such option"),
    ],
)
def test_another_argument_of_instrument_is_refused_with_a_reason(
    observability: Observability, name: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=f"{name}=True:? {reason}"):
        observability.instrument(FastAPI(), **{name: True})  # type: ignore[arg-type]
