"""The client's address and scheme as trusted proxies name them, from X-Forwarded-For and X-Forwarded-Proto.

In place of Uvicorn's middleware of this name, which compares addresses as they are written: a proxy that a dual-stack
socket sees as ::ffff:10.0.0.7 is not trusted there, and an entry that is no address becomes the client.
"""

from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from ..addresses import Address, Network, contains, parse_address, parse_network, written_port
from ..option_checks import split

ANY = "*"
_SCHEMES = {
    "http": {b"http": "http", b"https": "https", b"ws": "ws", b"wss": "wss"},
    "websocket": {b"http": "ws", b"https": "wss", b"ws": "ws", b"wss": "wss"},
}


class TrustedProxies:
    """The proxies that FORWARDED_ALLOW_IPS names: addresses and networks separated by commas, or `*` for any peer."""

    def __init__(self, written: str) -> None:
        self.any = written.strip() == ANY
        self.networks: tuple[Network, ...] = () if self.any else tuple(map(parse_network, split(written)))
        # Of a peer's text: the addresses of a service's proxies are few.
        self.names = lru_cache(maxsize=1024)(self._names)

    def _names(self, peer: str) -> bool:
        address = parse_address(peer)
        return address is not None and contains(self.networks, address)

    def client(self, forwarded: str) -> tuple[str, int] | None:
        """Return address and port of the client in X-Forwarded-For, the nearest that is no trusted proxy.

        Each proxy appends to the list, so it is read from its end. Behind an entry that is no address nothing can be
        told: the client is then the hop before it, or None if there is none. With `*` the first entry is the client,
        so the proxy has to replace the header.
        """
        hops = forwarded.split(",")
        found: tuple[Address, str] | None = None
        for hop in hops[:1] if self.any else reversed(hops):
            address = parse_address(hop)
            if address is None:
                break
            found = address, hop
            if not contains(self.networks, address):
                break
        return None if found is None else (str(found[0]), written_port(found[1]))


class ProxyHeadersMiddleware:
    """Set a request's client and scheme to what a trusted proxy's headers say."""

    def __init__(self, app: ASGIApp, *, trusted: str) -> None:
        self.app = app
        self.trusted = TrustedProxies(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _SCHEMES:
            client = scope.get("client")
            if self.trusted.any or (client and self.trusted.names(client[0])):
                self._apply(scope)
        await self.app(scope, receive, send)

    def _apply(self, scope: Scope) -> None:
        scheme, forwarded = b"", []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded.append(value)
            elif name == b"x-forwarded-proto":
                scheme = value
        if scheme:
            scope["scheme"] = _SCHEMES[scope["type"]].get(scheme.strip(), scope["scheme"])
        client = self.trusted.client(b",".join(forwarded).decode("latin-1")) if forwarded else None
        if client is not None:
            scope["client"] = client
