"""Methods over HTTP: Allow lists every method of a path, OPTIONS is answered, HEAD is GET without its body."""

from http import HTTPMethod

import httpx

READ = "GET, HEAD, OPTIONS"
BOTH = "GET, HEAD, OPTIONS, POST"
WRITE = "OPTIONS, POST"
# Without /metrics, which the package answers itself.
PATHS = {
    "/health": READ,
    "/health/live": READ,
    "/health/ready": READ,
    "/openapi.json": READ,
    "/docs": READ,
    "/api/v1/destinations": READ,
    "/api/v1/destinations/amed": READ,
    "/api/v1/destinations/amed/reviews": BOTH,
    "/api/v1/inquiries": BOTH,
    "/api/v1/assistant/chat": WRITE,
    "/api/v1/assistant/itineraries": WRITE,
}


async def test_allow_lists_every_method_of_the_path(client: httpx.AsyncClient) -> None:
    for path, methods in PATHS.items():
        options = await client.options(path)
        assert (options.status_code, options.headers["Allow"], options.content) == (204, methods, b""), path
        for method in {*HTTPMethod, "BREW"} - set(methods.split(", ")):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, methods), (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert method == "HEAD" or answer.json()["request_id"] == answer.headers["X-Request-ID"]


async def test_a_path_without_routes_has_no_methods(client: httpx.AsyncClient) -> None:
    for method in ("OPTIONS", "HEAD", "DELETE"):
        answer = await client.request(method, "/api/v1/nothing")
        assert answer.status_code == 404
        assert "Allow" not in answer.headers


async def test_head_has_the_status_and_type_of_get(client: httpx.AsyncClient) -> None:
    for path in (path for path, methods in PATHS.items() if "GET" in methods):
        head, get = await client.head(path), await client.get(path)
        assert head.status_code == get.status_code, path
        assert head.headers["content-type"] == get.headers["content-type"], path
