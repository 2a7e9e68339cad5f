"""Articles and orders."""

import asyncio
import logging

import structlog
from fastapi import APIRouter, BackgroundTasks, HTTPException, Request
from loguru import logger

from shop.metrics import CONFIRMED, ON_THE_WAY, ORDERS, PRICES, WEIGHTS
from shop.stores import price_of

router = APIRouter(prefix="/orders")
log = logging.getLogger("shop.orders")
events = structlog.get_logger("shop.events")


def confirm(article: str) -> None:
    """Send a confirmation, after the answer."""
    CONFIRMED.inc()
    events.info("confirmed", article=article, email="ayu@example.com")


@router.post("/{article}", status_code=201)
async def order(article: str, request: Request, background: BackgroundTasks) -> dict[str, object]:
    """Order an article: asks the database, Redis and the warehouse."""
    state = request.app.state
    async with state.sessions() as session:
        price = await price_of(session, article)
    if price is None:
        raise HTTPException(404, "no such article")
    number = await state.redis.incr("shop:orders")
    stock = (await state.warehouse.get(f"/stock/{article}")).json()
    ORDERS.labels(article).inc()
    ON_THE_WAY.inc()
    PRICES.observe(price)
    WEIGHTS.observe(0.5)
    background.add_task(confirm, article)
    log.info("ordered %s for ayu@example.com", article)
    logger.bind(article=article).info("packed for {}", "ayu@example.com")
    return {"number": number, "price": price, "stock": stock["left"]}


@router.get("/slow/{seconds}")
async def slow(seconds: float) -> dict[str, float]:
    """Take a while."""
    log.info("slow request")
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


@router.post("/{number}/refund")
async def refund(number: int) -> None:
    """Fail: refunds are not implemented."""
    raise NotImplementedError(f"refund {number} to ayu@example.com")


@router.post("/{number}/complaint", status_code=202)
async def complain(number: int) -> None:
    """Log an error by loguru, which Sentry reads too."""
    logger.error("complaint about order {}", number)
