"""HEAD wherever GET is answered (RFC 9110, 9.3.2): FastAPI adds no HEAD to a GET route."""

from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Route HEAD as GET, unless a route has a HEAD of its own. The server omits the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or _has_head(scope):
            await self.app(scope, receive, send)
            return

        started = False

        # The layers outside and the server see the method of the request. They read the route from this scope too, so
        # it is not a copy.
        async def receive_as_head() -> Message:
            scope["method"] = "HEAD"
            try:
                return await receive()
            finally:
                scope["method"] = "HEAD" if started else "GET"

        async def send_as_head(message: Message) -> None:
            nonlocal started
            started = True
            scope["method"] = "HEAD"
            await send(message)

        scope["method"] = "GET"
        try:
            await self.app(scope, receive_as_head, send_as_head)
        finally:
            scope["method"] = "HEAD"


def _has_head(scope: Scope) -> bool:
    """Return whether a route answers HEAD itself. That is not known of a mounted application."""
    copy = dict(scope)  # a match may leave something in it
    for route in scope["app"].routes if "app" in scope else ():
        if route.matches(copy)[0] is Match.FULL:
            return not isinstance(route, Mount)
    return False
