"""Methods that a path has no route for: OPTIONS is answered, any other is 405. Both list the methods in Allow."""

from collections.abc import Iterator
from http import HTTPMethod, HTTPStatus

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.api.problems import problem


def _routed(scope: Scope) -> Iterator[str]:
    """Return the methods that any route of the path takes. Starlette names those of the first one only."""
    for method in HTTPMethod:
        asked = {**scope, "method": method.value}  # a match may leave something in it
        if any(route.matches(asked)[0] is Match.FULL for route in scope["app"].routes):
            yield method.value


def allowed(scope: Scope) -> str:
    """Return the value of Allow for the path of `scope`."""
    methods = {*_routed(scope), HTTPMethod.OPTIONS.value}
    if HTTPMethod.GET in methods:
        methods.add(HTTPMethod.HEAD.value)  # app/middleware/head.py
    return ", ".join(sorted(methods))


async def not_routed(request: Request, _error: Exception) -> Response:
    """Answer OPTIONS with 204, and every other method that has no route here with 405."""
    headers = {"Allow": allowed(request.scope)}
    if request.method == HTTPMethod.OPTIONS:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    request_id, path = request.scope.get("request_id"), request.url.path
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, request_id=request_id, instance=path, headers=headers)


def install(app: FastAPI) -> None:
    """Have `app` answer methods without a route."""
    app.add_exception_handler(HTTPStatus.METHOD_NOT_ALLOWED, not_routed)
