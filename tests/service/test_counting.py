"""Request metrics of the service."""

from typing import Any

from app.main import create_app
from tests.conftest import running


async def test_the_service_counts_as_its_instrumentator_says(make_settings: Any) -> None:
    seen: list[str] = []
    app = create_app(make_settings())
    app.state.instrumentator.add(lambda info: seen.append(info.modified_handler))
    async with running(app) as client:
        await client.get("/api/v1/destinations/tanah-lot")
        await client.get("/metrics")
    assert seen == ["/api/v1/destinations/{slug}"]
