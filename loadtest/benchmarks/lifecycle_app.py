"""The application of the lifecycle benchmark: one route of FastAPI, bare or observed."""

import os

from fastapi import FastAPI

KIND, OURS, STOCK = "LIFECYCLE_KIND", "ours", "stock"
PATH = "/answer"
APPLICATION = f"{__name__}:served()"


def served() -> FastAPI:
    """Return the application for gunicorn; LIFECYCLE_KIND selects whether the package observes it."""
    app = FastAPI()

    @app.get(PATH)
    async def answer() -> dict[str, bool]:
        return {"answered": True}

    if os.environ[KIND] == OURS:
        from app.monitoring import Observability  # noqa: PLC0415 -- stock does not import it

        Observability.current().instrument(app)
    return app
