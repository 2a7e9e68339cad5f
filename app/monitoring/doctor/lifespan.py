"""The examination at the start under a server without a master: before the lifespan, in each process."""

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from .examination import enforce, examine, write_refusal
from .finding import ExaminationError


def examine_at_start(app: Starlette) -> None:
    """Have `app` refuse its lifespan where its numbers would be wrong: the server ends with the line.

    The refusal is ASGI's own message. An exception in the lifespan would be logged with its traceback.
    """
    serve = app.router.lifespan

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            enforce(examine(app))
        except ExaminationError as error:
            write_refusal(error)
            await receive()
            await send({"type": "lifespan.startup.failed", "message": ""})
        else:
            await serve(scope, receive, send)

    # Not a middleware, which every request would pass.
    vars(app.router)["lifespan"] = lifespan
