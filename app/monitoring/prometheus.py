"""The Instrumentator on our registry, the aggregate's exposure on the application's port, and who may read it.

The catalogue has a file of its own so that the exporter process does not have to load a web framework.
"""

from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from fastapi import FastAPI, Request
from prometheus_fastapi_instrumentator import Instrumentator as LibraryInstrumentator
from prometheus_fastapi_instrumentator import metrics
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.monitoring.catalogue import LATENCY_BUCKETS, registry
from app.monitoring.multiprocess.aggregate import exposition


@cache
def _http_metrics() -> Callable[[metrics.Info], None]:
    """The Instrumentator's default set, made once: a second application in one process shares it."""
    made = metrics.default(
        latency_highr_buckets=LATENCY_BUCKETS, latency_lowr_buckets=LATENCY_BUCKETS, registry=registry()
    )
    if made is None:
        raise RuntimeError("the http_* metrics are declared elsewhere in this registry")
    return made


class Instrumentator(LibraryInstrumentator):
    """The library's Instrumentator on the bounded registry, exposing the aggregate of all workers."""

    def __init__(self) -> None:
        super().__init__(should_group_status_codes=False, excluded_handlers=["^/metrics$"], registry=registry())
        self.add(_http_metrics())

    def expose_to(self, app: FastAPI, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """Serve /metrics on the application's port to peers in `networks`; everybody else gets 403.

        The library's `expose` would aggregate with its own collector and answer anybody; this gives the answer of
        the metrics port, and judges the socket's peer.
        """

        async def metrics_endpoint(request: Request) -> Response:
            if not allows(networks, request.scope.get("peer") or request.scope.get("client"), request.headers):
                return Response("metrics are not served to this address\n", 403, media_type="text/plain")
            body, content_type = await run_in_threadpool(exposition, request.headers.get("accept", ""), registry())
            return Response(body, headers={"content-type": content_type})

        app.add_api_route("/metrics", metrics_endpoint, include_in_schema=False)


def allows(networks: Sequence[IPv4Network | IPv6Network], peer: Sequence[Any] | None, headers: Any) -> bool:
    """Whether the socket's peer, `(host, port)`, lies in `networks`.

    A request that a proxy has forwarded never does: the peer is then the proxy, whoever asked. Headers can close
    this door but not open it.
    """
    if not peer or "x-forwarded-for" in headers or "forwarded" in headers:
        return False
    try:
        address = ip_address(peer[0])
    except ValueError:  # a Unix socket has no address
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
