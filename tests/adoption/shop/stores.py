"""Connections of one worker: SQLAlchemy on PostgreSQL, Redis, and an HTTP client for the warehouse."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Declarative base of the shop's tables."""


class Article(Base):
    """An article with its price."""

    __tablename__ = "articles"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    price: Mapped[float]


@asynccontextmanager
async def stores(app: FastAPI) -> AsyncIterator[None]:
    """Open the connections at startup and close them at shutdown."""
    engine = create_async_engine(os.environ["SHOP_DATABASE_URL"], pool_size=2)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.redis = Redis.from_url(os.environ["SHOP_REDIS_URL"])
    app.state.warehouse = httpx.AsyncClient(base_url=os.environ["SHOP_WAREHOUSE_URL"])
    try:
        yield
    finally:
        await app.state.warehouse.aclose()
        await app.state.redis.aclose()
        await engine.dispose()


async def price_of(session: AsyncSession, name: str) -> float | None:
    """Return the price of an article, or None if the shop does not sell it."""
    found = await session.scalar(select(Article.price).where(Article.name == name))
    return None if found is None else float(found)
