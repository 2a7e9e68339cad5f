"""HEAD through the real service on both ports: no answer has a body, and the next one on the connection is whole."""

from pathlib import Path

from tests.process.raw import request, talk
from tests.process.service import service

GZIP, CLOSE = "Accept-Encoding: gzip", "Connection: close"
# Status of a HEAD by path: that of a GET.
API = [
    ("/metrics", 200),
    ("/health", 200),
    ("/health/live", 200),
    ("/health/ready", 200),
    ("/api/v1/destinations", 200),
    ("/api/v1/destinations/tanah-lot", 200),
    ("/api/v1/destinations/tanah-lot/reviews", 200),
    ("/api/v1/inquiries", 401),
    ("/api/v1/assistant/chat", 405),
    ("/openapi.json", 200),
    ("/docs", 200),
    ("/no/such/path", 404),
]


async def test_a_head_of_any_path_leaves_the_next_answer_intact(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, WEB_CONCURRENCY="1", **addresses) as running:
        for path, status in API:
            one, last = request("HEAD", path, GZIP), request("GET", "/health/live", CLOSE)
            first, second, live = talk(running.port, one, one, last)
            assert [first.status, second.status, live.status] == [status, status, 200], path
            assert int(first.headers["content-length"]) > 0, path
            assert first.headers["x-request-id"] != second.headers["x-request-id"]
        for path in ("/metrics", "/health", "/none"):
            one, last = request("HEAD", path, GZIP), request("GET", "/health", CLOSE)
            assert talk(running.metrics_port, one, one, last)[-1].body == b"ok\n"
        counted = len([path for path, _ in API if path != "/metrics"])
        assert running.total("http_requests_total", method="HEAD") == 2 * counted
