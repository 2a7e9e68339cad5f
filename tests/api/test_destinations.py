"""The catalogue over HTTP."""

import httpx


async def test_the_catalogue_is_listed_by_slug(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/destinations", params={"limit": 5})
    assert answer.status_code == 200
    slugs = [item["slug"] for item in answer.json()["items"]]
    assert slugs == sorted(slugs)
    assert len(slugs) == 5
