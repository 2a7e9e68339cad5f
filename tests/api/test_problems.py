"""Errors over HTTP: RFC 9457 problems that carry the request's id and nothing of the inside."""

import json
import math
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from urllib.parse import quote, unquote

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from structlog.testing import capture_logs

from app.api.problems import install, problem
from app.main import create_app
from app.middleware.middleware import MAX_BODY_BYTES
from app.settings import Settings
from tests.conftest import Application, running
from tests.middleware.wire import Wire
from tests.monitoring.redaction import corpus

AWAY = "postgresql://postgres@/postgres?host=/nonexistent"
PASSWORD = "quokka"


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"], body["title"]) == ("about:blank", status, HTTPStatus(status).phrase)
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert body["instance"] == answer.request.url.path


@pytest.fixture
async def broken(make_settings: Callable[..., Settings]) -> AsyncIterator[httpx.AsyncClient]:
    """Yield the application with routes that fail."""
    app: FastAPI = create_app(make_settings())

    async def boom() -> None:
        raise RuntimeError(f"the password is {PASSWORD}")

    async def teapot() -> None:
        raise HTTPException(418, "Short and stout.", {"X-Kind": "teapot"})

    async def odd() -> None:
        raise HTTPException(499, {"seats": 10**30, "share": math.nan, 7: [True, None]})

    async def refused(why: str) -> None:
        raise HTTPException(400, {"reason": f"{why} is not wanted", why: "unknown", "password": "plain"})

    app.add_api_route("/boom", boom)
    app.add_api_route("/odd", odd)
    app.add_api_route("/refused", refused)
    app.add_api_route("/teapot", teapot)
    async with running(app) as client:
        yield client


async def test_a_path_that_is_not_there_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/nothing")
    assert_problem(answer, 404)
    assert "detail" not in answer.json()


async def test_another_slash_is_another_path(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/v1/destinations/"), 404)


async def test_a_method_that_is_not_allowed_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.put("/api/v1/destinations/amed")
    assert_problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_a_problem_carries_the_id_that_the_client_gave(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing", headers={"X-Request-ID": "5eedc0de"})
    assert answer.json()["request_id"] == "5eedc0de"


async def test_an_invalid_request_says_where_and_why_but_not_what(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/destinations/amed/reviews", json={"rating": 5_551_234, "text": ["private"]})
    assert_problem(answer, 422)
    assert [error["where"] for error in answer.json()["errors"]] == [["body", "rating"], ["body", "text"]]
    assert all(error.keys() == {"where", "message", "kind"} for error in answer.json()["errors"])
    assert "private" not in answer.text
    assert "5551234" not in answer.text


@pytest.mark.parametrize("private", ["wayan@example.com", "+62 812-3456-7890", "4111111111111111", "5171012304900001"])
async def test_a_problem_does_not_repeat_private_data(broken: httpx.AsyncClient, private: str) -> None:
    for answer in (
        await broken.get(f"/api/v1/guests/{private}"),
        await broken.get("/api/v1/destinations", params={"limit": private}),
        await broken.post(
            "/api/v1/inquiries", json={"name": "Ayu", "email": private * 9, "message": private, private: 1}
        ),
        await broken.post(
            "/api/v1/inquiries", content=f'{{"email": "{private}', headers={"Content-Type": "application/json"}
        ),
        await broken.get("/refused", params={"why": private}),
    ):
        assert answer.status_code >= 400
        assert private not in unquote(answer.text)


# Behind a slash these are plain, in paths as in lines: the "key" of a cache, parts of a path, a date, an id.
PLAIN = "0812/3456/7890", "06.12.34.56.78", "006561234567"
PATHS = [
    entry
    for entry in corpus.load("private")
    if not entry.startswith("key=") and corpus.without_marks(entry) not in PLAIN
]


@pytest.fixture
async def bare() -> AsyncIterator[httpx.AsyncClient]:
    """Yield an application with nothing but the handlers of errors."""
    app = FastAPI()
    install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bali.test") as client:
        yield client


@pytest.mark.parametrize("times", [1, 2])
async def test_a_path_is_redacted_as_lines_are_however_it_is_encoded(bare: httpx.AsyncClient, times: int) -> None:
    left = {}
    for entry in PATHS:
        path = corpus.without_marks(entry)
        for _ in range(times):
            path = quote(path, safe="")
        answer = await bare.get(f"/u/{path}/orders")
        if any(corpus.leaks(secret, answer.text) for secret in corpus.secrets(entry)):
            left[entry] = answer.text
    assert left == {}


@pytest.mark.parametrize("place", ["caf\u00e9", "rice fields?", "50%", "a#b", "a\\b", "a@b", "100%25", "x=1&y=2"])
async def test_a_path_without_private_data_comes_back_as_it_was_sent(bare: httpx.AsyncClient, place: str) -> None:
    answer = await bare.get(f"/places/{quote(place, safe='')}")
    instance = answer.json()["instance"]
    assert unquote(instance) == f"/places/{place}"
    assert instance.isascii()
    assert not set(' ?#"<>\\^`{|}') & set(instance)


async def test_a_query_that_is_no_text_is_no_error_of_ours() -> None:
    app = FastAPI()
    install(app)
    wire = Wire("/nothing", query_string=b"\xff")
    await wire.run(app)
    assert wire.status == 404


async def test_an_error_that_nobody_foresaw_is_a_problem_without_internals(broken: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        answer = await broken.get("/boom")
    assert_problem(answer, 500)
    assert answer.json().keys() == {"type", "title", "status", "instance", "request_id"}
    assert PASSWORD not in answer.text
    assert [line["log_level"] for line in lines if line["event"] == "unhandled_error"] == ["error"]
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]


async def test_a_handlers_own_error_keeps_its_detail_and_headers(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("/teapot")
    assert_problem(answer, 418)
    assert answer.json()["detail"] == "Short and stout."
    assert answer.headers["X-Kind"] == "teapot"


async def test_a_handlers_own_error_may_have_any_status_and_any_value_as_its_detail(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("/odd")
    assert answer.status_code == 499
    assert answer.json() == {
        "type": "about:blank",
        "status": 499,
        "detail": {"seats": 10**30, "share": None, "7": [True, None]},
        "instance": "/odd",
        "request_id": answer.headers["X-Request-ID"],
    }


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/api/v1/destinations", None),
        ("GET", "/api/v1/destinations/amed", None),
        ("GET", "/api/v1/destinations/amed/reviews", None),
        ("POST", "/api/v1/destinations/amed/reviews", {"rating": 5, "text": "fine"}),
        ("POST", "/api/v1/inquiries", {"name": "Ayu", "email": "ayu@example.com", "message": "Hello."}),
        ("POST", "/api/v1/assistant/chat", {"message": "Where is a temple?"}),
        ("POST", "/api/v1/assistant/itineraries", {"days": 2}),
    ],
)
async def test_a_database_that_is_away_is_a_problem_to_retry(
    application: Application, method: str, path: str, content: dict[str, object] | None
) -> None:
    async with application(database_url=AWAY) as client:
        answer = await client.request(method, path, json=content)
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert "nonexistent" not in answer.text
    assert "asyncpg" not in answer.text.lower()


@pytest.mark.parametrize("announced", [True, False], ids=["with a length", "in chunks"])
async def test_a_body_that_is_too_large_is_a_problem(client: httpx.AsyncClient, *, announced: bool) -> None:
    whole = json.dumps({"name": "Ayu", "email": "ayu@example.com", "message": "x" * MAX_BODY_BYTES}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 65_536):
            yield whole[start : start + 65_536]

    with capture_logs() as lines:
        content = whole if announced else chunks()
        answer = await client.post("/api/v1/inquiries", content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []


async def test_a_body_of_the_largest_size_is_read(client: httpx.AsyncClient) -> None:
    content = b'{"message": "Hello."' + b" " * (MAX_BODY_BYTES - 21) + b"}"
    assert len(content) == MAX_BODY_BYTES
    answer = await client.post("/api/v1/assistant/chat", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


def test_a_problem_holds_what_is_known_and_no_more() -> None:
    made = problem(503, path="/here", headers={"Retry-After": "2"}, circuit="open")
    assert json.loads(bytes(made.body)) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "instance": "/here",
        "circuit": "open",
    }
    assert made.headers["Retry-After"] == "2"
