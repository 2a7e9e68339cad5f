"""The OpenAPI document: the errors of every operation with their media types and headers."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from jsonschema_rs import validator_for

from app.api.openapi import errors
from app.main import create_app
from app.settings import Settings
from tests.conftest import ADMIN_KEY, Application

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
EVERY = {"400", "405", "408", "413", "431", "500", "503"}
CATALOGUE = EVERY | {"200", "422"}
ASSISTANT = EVERY | {"200", "422", "429", "502", "504"}
STATUSES = {
    "GET /health/live": EVERY | {"200"},
    "GET /health/ready": EVERY | {"200"},
    "GET /health": EVERY | {"200"},
    "GET /api/v1/destinations": CATALOGUE,
    "GET /api/v1/destinations/{slug}": CATALOGUE | {"404"},
    "GET /api/v1/destinations/{slug}/reviews": CATALOGUE | {"404"},
    "POST /api/v1/destinations/{slug}/reviews": EVERY | {"201", "404", "422", "429"},
    "GET /api/v1/inquiries": CATALOGUE | {"401", "429"},
    "POST /api/v1/inquiries": EVERY | {"201", "422", "429"},
    "POST /api/v1/assistant/chat": ASSISTANT,
    "POST /api/v1/assistant/itineraries": ASSISTANT,
}
HEADERS = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After", "503": "Retry-After"}
INQUIRY: dict[str, Any] = {"name": "Ayu", "email": "ayu@example.com", "message": "Hello."}


@pytest.fixture
def document(make_settings: Callable[..., Settings]) -> dict[str, Any]:
    """Return the document of the application."""
    return create_app(make_settings()).openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_every_operation_has_its_errors(document: dict[str, Any]) -> None:
    assert {name: set(operation["responses"]) for name, operation in operations(document).items()} == STATUSES


def test_errors_have_the_media_type_and_the_headers_that_are_sent(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status >= "400" and status not in {"408", "431"}:
                assert content["application/problem+json"] == PROBLEM["application/problem+json"], (name, status)
            if status in {"408", "431"}:
                assert content == {"text/plain": {"schema": {"type": "string"}}}
            # A probe that fails is asked again in its own time.
            probe = status == "503" and name in {"GET /health", "GET /health/ready"}
            expected = [] if probe or status not in HEADERS else [HEADERS[status]]
            assert status < "400" or list(response.get("headers", {})) == expected, (name, status)


def test_fastapis_own_validation_errors_are_not_documented(document: dict[str, Any]) -> None:
    assert "ValidationError" not in str(document["paths"])
    assert not {"ValidationError", "HTTPValidationError"} & document["components"]["schemas"].keys()
    assert {"Problem", "InvalidPart"} <= document["components"]["schemas"].keys()


def test_staffs_key_is_documented_for_their_operation_only(document: dict[str, Any]) -> None:
    secured = [name for name, operation in operations(document).items() if "security" in operation]
    assert secured == ["GET /api/v1/inquiries"]
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")


async def test_the_document_that_is_served_is_this_one(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await client.get("/openapi.json")).json() == document


async def test_a_problem_is_what_its_schema_says(application: Application, document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    validator = validator_for(schema)
    path = "/api/v1/inquiries"
    async with application(rate_limit_writes="2/day") as client:
        refused = [
            await client.post(path, json={}),
            await client.post(path, json={**INQUIRY, "arrival": 0}),
            await client.post(path, content=b"\xff", headers={"Content-Type": "application/json"}),
            await client.post(path, json=INQUIRY),
            await client.get(path),
            await client.delete(path),
            await client.get("/api/v1/destinations/nowhere"),
            await client.post(path, content=b"x" * 300_000),
        ]
        accepted = await client.get(path, headers={"X-API-Key": ADMIN_KEY})
    assert [answer.status_code for answer in refused] == [422, 422, 400, 429, 401, 405, 404, 413]
    for answer in refused:
        validator.validate(answer.json())
    assert not validator.is_valid(accepted.json())


def test_an_error_that_nobody_has_described_cannot_be_documented() -> None:
    with pytest.raises(KeyError, match="418"):
        errors(418)
