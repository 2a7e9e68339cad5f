"""Every error as an RFC 9457 problem with the request's id, without messages of drivers or upstreams.

The parts of the request that a problem repeats, such as its path and the names of its fields, are redacted like logs
and spans: bodies of errors are kept by proxies and pasted into tickets.
"""

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.assistant.breaker import CircuitOpen
from app.assistant.upstream import UpstreamError, UpstreamRejected, UpstreamTimeout
from app.database.inquiries import KeyReused
from app.database.pool import DatabaseUnavailable
from app.monitoring.redaction import redact

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_AFTER = 2
# Of RFC 3986, and the brackets of replacements such as [email].
_PATH_CHARACTERS = "/:@!$&'()*+,;=~[]"


class RateLimited(Exception):  # noqa: N818 -- reads as what happened
    """The client has sent too many requests; the next may come after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"retry after {retry_after} s")


def problem(
    status: int,
    detail: str | None = None,
    *,
    request_id: str | None = None,
    path: str | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    """Return a problem response; `path` is the request's, decoded, and `members` are extension members."""
    body = {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": redact(detail),
        "instance": None if path is None else _instance(path),
        "request_id": request_id,
        **redact(members),
    }
    content = _encoded({name: value for name, value in body.items() if value is not None})
    return Response(content, int(status), headers=headers, media_type=MEDIA_TYPE)


def _instance(path: str) -> str:
    """Return the path as a URI reference, redacted while it is decoded: nothing then hides a name or a value."""
    return quote(redact(path), safe=_PATH_CHARACTERS, errors="replace")


def _phrase(status: int) -> str | None:
    """Return the phrase of a status, None for one that is not registered, such as 499."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return None


def _encoded(body: dict[str, Any]) -> bytes:
    """Return `body` as JSON. The detail of an HTTPException may be any value."""
    try:
        return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer over 64 bits
        plain = json.loads(json.dumps(body, default=str), parse_constant=lambda _: None)  # NaN is null, as in orjson
        return json.dumps(plain).encode()


def _for(
    request: Request, status: int, detail: str | None = None, retry_after: float | None = None, **more: Any
) -> Response:
    headers = dict(more.pop("headers", None) or {})
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    request_id = request.scope.get("request_id")
    return problem(status, detail, request_id=request_id, path=request.scope["path"], headers=headers, **more)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for it below
    detail = None if error.detail == _phrase(error.status_code) else error.detail
    return _for(request, error.status_code, detail, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    # Location and reason only: the input may be private, and a message may quote it behind a colon.
    errors = [
        {"where": list(item["loc"]), "message": item["msg"].partition(":")[0], "kind": item["type"]}
        for item in error.errors()
    ]
    return _for(
        request,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The request does not have the form that is wanted.",
        errors=errors,
    )


async def _database_away(request: Request, _error: Exception) -> Response:
    detail = "The database is not available. Nothing that was not confirmed can be taken as stored; try again."
    return _for(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, DATABASE_RETRY_AFTER)


async def _rate_limited(request: Request, error: Exception) -> Response:
    assert isinstance(error, RateLimited)  # noqa: S101
    return _for(request, HTTPStatus.TOO_MANY_REQUESTS, "Too many requests.", error.retry_after)


async def _circuit_open(request: Request, error: Exception) -> Response:
    assert isinstance(error, CircuitOpen)  # noqa: S101
    return _for(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The AI service is resting after failures.",
        error.retry_after,
    )


async def _upstream_timeout(request: Request, _error: Exception) -> Response:
    return _for(request, HTTPStatus.GATEWAY_TIMEOUT, "The AI service did not answer in time.")


async def _upstream_failed(request: Request, _error: Exception) -> Response:
    return _for(request, HTTPStatus.BAD_GATEWAY, "The AI service failed.")


async def _key_reused(request: Request, _error: Exception) -> Response:
    # Neither the first content nor its answer: whoever has learnt a key must not learn what it was used for.
    detail = "This Idempotency-Key was used for other content. Send a new key with new content."
    return _for(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail)


async def _unhandled(request: Request, _error: Exception) -> Response:
    return _for(request, HTTPStatus.INTERNAL_SERVER_ERROR)


def install(app: FastAPI) -> None:
    """Have `app` answer every error as a problem."""
    for kind, handler in {
        HTTPException: _http_error,
        RequestValidationError: _invalid,
        DatabaseUnavailable: _database_away,
        RateLimited: _rate_limited,
        CircuitOpen: _circuit_open,
        UpstreamTimeout: _upstream_timeout,
        UpstreamError: _upstream_failed,
        UpstreamRejected: _upstream_failed,
        KeyReused: _key_reused,
        Exception: _unhandled,
    }.items():
        app.add_exception_handler(kind, handler)
