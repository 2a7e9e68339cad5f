"""Each option of the Instrumentator has an effect on real requests, or is refused with a reason."""

import inspect
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import Counter
from prometheus_fastapi_instrumentator import Instrumentator as Library
from prometheus_fastapi_instrumentator import metrics as library
from structlog.testing import capture_logs

from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.prometheus import REFUSED, Instrumentator, recorder
from app.monitoring.requests import layer as middleware
from app.monitoring.requests.placement import observe
from tests.middleware.applications import fastapi_house
from tests.middleware.wire import Wire
from tests.monitoring.oracle import Call, drive

WORKING = {"should_group_status_codes", "should_ignore_untemplated", "excluded_handlers"}
OTHERS = {name: one.default for name, one in inspect.signature(Library).parameters.items() if name not in WORKING}
CALLS = [Call("/items/7"), Call("/no/such/place"), Call("/refused/404"), Call("/metrics"), Call("/echo", "POST")]
Counted = dict[tuple[str, str, str], float]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> BoundedRegistry:
    """Return a process registry for this test only."""
    own = BoundedRegistry()
    monkeypatch.setattr("app.monitoring.prometheus.registry", lambda: own)
    monkeypatch.setattr(
        "app.monitoring.prometheus._declare_http_metrics", lambda: library.default(registry=own) and None
    )
    return own


def observed(instrumentator: Instrumentator) -> FastAPI:
    """Return an application with routes of all kinds, observed as the service is."""
    app = fastapi_house()
    observe(app, metrics=recorder(instrumentator))
    return app


async def counted(own: BoundedRegistry, instrumentator: Instrumentator) -> Counted:
    """Return http_requests_total by method, status and handler after some calls."""
    await drive(observed(instrumentator), CALLS)
    return {
        (sample.labels["method"], sample.labels["status"], sample.labels["handler"]): sample.value
        for family in own.collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


ALL: Counted = {
    ("GET", "200", "/items/{item}"): 1,
    ("GET", "404", "none"): 1,
    ("GET", "404", "/refused/{code}"): 1,
    ("POST", "200", "/echo"): 1,
}


async def test_all_but_the_scrape_is_counted_by_status(own_registry: BoundedRegistry) -> None:
    assert await counted(own_registry, Instrumentator()) == ALL


async def test_status_codes_are_grouped(own_registry: BoundedRegistry) -> None:
    grouped = {(method, f"{status[0]}xx", handler): 1.0 for method, status, handler in ALL}
    assert await counted(own_registry, Instrumentator(should_group_status_codes=True)) == grouped


async def test_what_no_route_has_taken_is_ignored(own_registry: BoundedRegistry) -> None:
    left = {key: 1.0 for key in ALL if key[2] != "none"}
    assert await counted(own_registry, Instrumentator(should_ignore_untemplated=True)) == left


@pytest.mark.parametrize(
    ("excluded", "gone"),
    [
        (["^/items/"], {"/items/{item}"}),
        (["refused", "^/echo$"], {"/refused/{code}", "/echo"}),
        (["^/item$"], set()),
        (["none"], {"none"}),
    ],
)
async def test_excluded_handlers_are_not_counted(
    own_registry: BoundedRegistry, excluded: list[str], gone: set[str]
) -> None:
    left: Counted = {key: 1.0 for key in ALL if key[2] not in gone} | {("GET", "200", "/metrics"): 1}
    assert await counted(own_registry, Instrumentator(excluded_handlers=excluded)) == left


async def test_an_excluded_request_leaves_no_series_and_no_exemplar(own_registry: BoundedRegistry) -> None:
    made = recorder(Instrumentator(excluded_handlers=["."]))
    for _ in range(2):
        made.record("GET", 200, "/items/{item}", 0.1, 5, 5, {"trace_id": "1"})
    assert [s for f in own_registry.collect() for s in f.samples if s.labels.get("handler")] == []
    assert own_registry.get_sample_value("http_request_duration_highr_seconds_count") == 0


async def test_options_work_together(own_registry: BoundedRegistry) -> None:
    both = Instrumentator(should_group_status_codes=True, should_ignore_untemplated=True, excluded_handlers=["^/[ie]"])
    assert await counted(own_registry, both) == {("GET", "4xx", "/refused/{code}"): 1, ("GET", "2xx", "/metrics"): 1}


async def test_grouped_statuses_share_a_series_that_overflows_like_others(own_registry: BoundedRegistry) -> None:
    made = recorder(Instrumentator(should_group_status_codes=True))
    own_registry.max_series = 1
    for status in (200, 204, 404):
        made.record("GET", status, "/x", 0.1, 0, 0)
    requests = own_registry._names_to_collectors["http_requests_total"]
    assert isinstance(requests, Counter)
    assert set(requests._metrics) == {("GET", "2xx", "/x"), (OVERFLOW, OVERFLOW, OVERFLOW)}
    assert requests.labels("GET", "2xx", "/x")._value.get() == 2


async def test_a_function_that_is_added_sees_each_request_that_counts() -> None:
    seen: list[library.Info] = []
    # Added when the recorder exists already, as an application would.
    instrumentator = Instrumentator(should_group_status_codes=True, should_ignore_untemplated=True)
    app = observed(instrumentator)
    assert instrumentator.add(seen.append, None) is instrumentator
    await drive(app, [*CALLS, Call("/stream"), Call("/items/7", "BREW")])
    assert [(info.method, info.modified_status, info.modified_handler) for info in seen] == [
        ("GET", "2xx", "/items/{item}"),
        ("GET", "4xx", "/refused/{code}"),
        ("POST", "2xx", "/echo"),
        ("GET", "2xx", "/stream"),
        ("_OTHER", "4xx", "/items/{item}"),
    ]
    first = seen[0]
    assert first.request.url.path == "/items/7"
    assert first.response is not None
    assert (first.response.status_code, first.response.headers["content-type"]) == (200, "application/json")
    assert first.response.headers["x-request-id"]
    for info in seen:
        assert 0 < info.modified_duration_without_streaming <= info.modified_duration


async def test_a_function_sees_a_client_that_has_left_and_a_failure() -> None:
    seen: list[tuple[str, float]] = []

    def note(info: library.Info) -> None:
        seen.append((info.modified_status, info.modified_duration_without_streaming))

    app = observed(Instrumentator().add(note))
    gone = Wire("/echo", "POST")
    gone.incoming.clear()
    gone.hang_up()
    await gone.run(app)
    with pytest.raises(LookupError):
        await Wire("/boom").run(app)
    assert [status for status, _ in seen] == ["499", "500"]
    assert seen[0][1] == 0, "no response had begun"
    assert seen[1][1] > 0


async def test_functions_of_the_library_count_in_the_bounded_registry(own_registry: BoundedRegistry) -> None:
    instrumentator = Instrumentator().add(
        library.requests(metric_name="my_requests_total", registry=own_registry),
        library.latency(metric_name="my_latency", registry=own_registry, should_exclude_streaming_duration=True),
        library.response_size(metric_name="my_sizes", registry=own_registry),
        library.default(registry=own_registry),  # declared already: None, so nothing is counted twice
    )
    assert await counted(own_registry, instrumentator) == ALL
    labels = {"method": "POST", "status": "200", "handler": "/echo"}
    assert own_registry.get_sample_value("my_requests_total", labels) == 1
    assert own_registry.get_sample_value("my_latency_count", labels) == 1
    assert own_registry.get_sample_value("my_sizes_count", labels) == 1


async def test_a_function_that_fails_costs_neither_the_client_nor_the_next_function() -> None:
    seen: list[Any] = []

    def broken(_info: library.Info) -> None:
        raise LookupError("of the function")

    app = observed(Instrumentator().add(broken, seen.append))
    with capture_logs() as lines:
        wire = Wire("/items/7")
        await wire.run(app)
    assert wire.status == 200
    assert len(seen) == 1
    [line] = [line for line in lines if line["event"] == "instrumentation_failed"]
    assert line["function"].endswith("broken")


async def test_nothing_is_made_for_functions_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any, **__: Any) -> None:
        raise AssertionError("an Info was made")

    monkeypatch.setattr(middleware, "Info", made)
    monkeypatch.setattr(middleware._WatchedExchange, "__init__", made)
    wire = Wire("/items/7")
    await wire.run(observed(Instrumentator()))
    assert wire.status == 200


@pytest.mark.parametrize("name", OTHERS)
def test_an_option_without_effect_is_refused_with_a_reason(name: str) -> None:
    other: Any = not OTHERS[name] if isinstance(OTHERS[name], bool) else object()
    with pytest.raises(ValueError, match=rf"^{name}=.+ has no effect here: .{{30}}"):
        Instrumentator(**{name: other})
    Instrumentator(**{name: OTHERS[name]})


def test_each_option_of_the_library_works_or_has_a_reason() -> None:
    assert OTHERS.keys() <= REFUSED.keys()
    assert REFUSED.keys() - OTHERS.keys() <= {"should_include_root_path"}, "the library has it from 8.1 on"


def test_an_option_that_the_library_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="should_do_magic=True: the Instrumentator has no such option"):
        Instrumentator(should_do_magic=True)
    with pytest.raises(TypeError, match="excluded_handlers='/metrics': want a sequence"):
        Instrumentator(excluded_handlers="/metrics")


def test_what_cannot_work_with_the_layer_is_refused() -> None:
    async def later(_info: library.Info) -> None:
        """Do nothing; never called."""

    app = FastAPI()
    with pytest.raises(TypeError, match=r"add\(later\): .+ want a plain function"):
        Instrumentator().add(later)
    with pytest.raises(TypeError, match=r"count each request twice: call Observability\.instrument"):
        Instrumentator().instrument(app)
    with pytest.raises(TypeError, match=r"no access control.+ call Observability\.instrument"):
        Instrumentator().expose(app)
    assert not app.user_middleware
