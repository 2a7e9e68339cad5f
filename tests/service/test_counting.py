"""Request metrics of the service."""

from typing import Any

from app.main import create_app
from app.monitoring import Observability
from tests.conftest import running


async def test_functions_are_added_through_the_current_object(make_settings: Any) -> None:
    seen: list[str] = []
    app = create_app(make_settings())
    Observability.current().add(lambda info: seen.append(info.modified_handler))
    async with running(app) as client:
        await client.get("/api/v1/destinations/tanah-lot")
        await client.get("/metrics")
    assert seen == ["/api/v1/destinations/{slug}"]
