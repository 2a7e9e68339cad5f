"""Servers for the started services: the session's, in databases of their own."""

import pytest


@pytest.fixture
def addresses(database_url: str, redis_url: str) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL for one service."""
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
