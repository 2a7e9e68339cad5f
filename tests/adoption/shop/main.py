"""The application."""

import os

import sentry_sdk
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from shop import live, orders
from shop.stores import stores

GREETING = "welcome"

sentry_sdk.init(os.environ.get("SENTRY_DSN"), environment="shop")
app = FastAPI(lifespan=stores)
app.include_router(orders.router, prefix="/api/v1")
app.include_router(live.router)
app.mount("/staff", live.staff)


@app.exception_handler(Exception)
def sorry(request: Request, error: Exception) -> JSONResponse:
    """Answer whatever no route has handled."""
    return JSONResponse({"sorry": type(error).__name__}, 500)


@app.get("/")
def greeting() -> dict[str, str]:
    """Say hello."""
    return {"greeting": GREETING}
