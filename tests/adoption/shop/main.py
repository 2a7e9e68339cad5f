"""The application."""

from fastapi import FastAPI

from shop import live, orders
from shop.stores import stores

GREETING = "welcome"

app = FastAPI(lifespan=stores)
app.include_router(orders.router, prefix="/api/v1")
app.include_router(live.router)
app.mount("/staff", live.staff)


@app.get("/")
def greeting() -> dict[str, str]:
    """Say hello."""
    return {"greeting": GREETING}
