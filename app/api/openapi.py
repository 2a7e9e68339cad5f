"""The errors of an operation in the OpenAPI document, with their media types and headers.

`errors(404, 429)` is for `responses=` of routes and routers; `EVERYWHERE` are the errors of every operation.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from app.api.problems import MEDIA_TYPE

PLAIN = "text/plain"
REF = "#/components/schemas/"
Responses = dict[int | str, dict[str, Any]]


class InvalidPart(BaseModel):
    """A part of the request that does not have the form that is wanted."""

    where: list[str | int] = Field(description="path to the part, such as body, rating")
    message: str
    kind: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="about:blank: the status says it all")
    title: str = Field(description="the status's phrase")
    status: int
    detail: str | None = None
    instance: str | None = Field(None, description="the request's path, redacted")
    request_id: str | None = Field(None, description="X-Request-ID of the response")
    errors: list[InvalidPart] | None = Field(None, description="the parts that are refused, of 422")


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": schema}


_RETRY_AFTER = {"Retry-After": _header("seconds until the next attempt", {"type": "integer", "minimum": 1})}
_ALLOW = {"Allow": _header("methods of the path", {"type": "string"})}
_CHALLENGE = {"WWW-Authenticate": _header("the scheme, ApiKey", {"type": "string"})}
# The server itself refuses messages that are no request, or not a whole one, before there is an application.
_ERRORS: dict[int, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    400: ("The message is malformed, or its body cannot be decoded.", (MEDIA_TYPE, PLAIN), {}),
    401: ("X-API-Key is missing or wrong.", (MEDIA_TYPE,), _CHALLENGE),
    404: ("There is no such resource.", (MEDIA_TYPE,), {}),
    405: ("The path has no such method.", (MEDIA_TYPE,), _ALLOW),
    408: ("The request took too long to arrive.", (PLAIN,), {}),
    413: ("The body is too large.", (MEDIA_TYPE,), {}),
    422: ("A part of the request does not have the form that is wanted.", (MEDIA_TYPE,), {}),
    429: ("The client has sent too many requests.", (MEDIA_TYPE,), _RETRY_AFTER),
    431: ("The request's head is too large.", (PLAIN,), {}),
    500: ("The request failed for a reason that was not foreseen.", (MEDIA_TYPE,), {}),
    502: ("The AI service failed.", (MEDIA_TYPE,), {}),
    503: ("The service is overloaded, or something it needs is away.", (MEDIA_TYPE, PLAIN), _RETRY_AFTER),
    504: ("The AI service did not answer in time.", (MEDIA_TYPE,), {}),
}


def _content(media_type: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"{REF}{Problem.__name__}"} if media_type == MEDIA_TYPE else {"type": "string"}}


def errors(*statuses: int) -> Responses:
    """Return the descriptions of error responses, for `responses=`. Raise KeyError if one has none."""
    described: Responses = {}
    for status in statuses:
        description, media_types, headers = _ERRORS[status]
        described[status] = {
            "description": description,
            "content": {media_type: _content(media_type) for media_type in media_types},
            **({"headers": headers} if headers else {}),
        }
    return described


EVERYWHERE = errors(400, 405, 408, 413, 431, 500, 503)


def document_problems(app: FastAPI) -> None:
    """Add the schema of problems to the document of `app`; FastAPI collects those of its own media type only."""
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        problem = Problem.model_json_schema(ref_template=REF + "{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(problem.pop("$defs"))
        schemas[Problem.__name__] = problem
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way to extend the document
