"""Signs that a request has passed a proxy, so that its peer is the proxy and not who sent it.

A sign can only deny access. A request without one is not proven to be direct: a proxy that passes everything on as it
came, with HTTP/1.1 and the service's own address as Host, leaves none.
"""

import re
import socket
from functools import cache

from starlette.types import Scope

from ..addresses import parse_address

# Whole names, and names of vendors by their first letters.
_NAMES = frozenset(
    b"""forwarded via x-real-ip x-client-ip client-ip x-cluster-client-ip true-client-ip x-true-client-ip x-remote-ip
    x-remote-addr x-originating-ip x-proxyuser-ip x-proxy-id x-scheme x-host x-forwarded x-forward-for forwarded-for
    forwarded-for-ip front-end-https x-url-scheme x-nginx-proxy x-varnish x-haproxy-server-state x-traefik-router
    x-cloud-trace-context x-waws-unencoded-url disguised-host x-site-deployment-id x-appengine-user-ip
    x-google-real-ip cdn-loop cdn-requestid fastly-ff x-sucuri-clientip x-sucuri-country x-proxied-for x-bluecoat-via
    x-imforwards proxy-connection x-proxy-connection wl-proxy-client-ip x-ms-forwarded-client-ip x-do-connecting-ip
    do-connecting-ip max-forwards x-coming-from x-from-cdn x-cdn x-real-proto x-real-port x-rewrite-url
    x-request-start x-queue-start surrogate-capability remote-addr remote-user x-client-cert""".split()
)
_PREFIXES = (
    b"x-forwarded-",
    b"x-original-",
    b"x-ssl-",
    b"ssl-client-",
    b"x-auth-request-",
    b"x-envoy-",
    b"cf-",
    b"x-amz-cf-",
    b"x-amzn-",
    b"x-goog-",
    b"x-arr-",
    b"x-kong-",
    b"x-consumer-",
    b"l5d-",
    b"tailscale-",
    b"ngrok-",
    b"x-railway-",
    b"incap-",
    b"ali-cdn-",
    b"cloudfront-",
    b"fastly-",
    b"fly-",
    b"x-azure-",
    b"x-fd-",
    b"x-vercel-",
    b"x-nf-",
    b"x-akamai-",
    b"akamai-",
    b"x-appengine-",
    b"x-appgw-",
    b"x-heroku-",
    b"proxy-client-",
)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.%]{2,64}\]|[^\[\]:/@\s]{1,253})(?::\d{1,5})?")
# Domains that exist inside a network only, by RFC 6761, RFC 6762 and RFC 8375 and by the habit of clusters.
_PRIVATE_DOMAINS = (".internal", ".local", ".localhost", ".lan", ".svc", ".home.arpa", ".test", ".intranet", ".corp")


def proxy_sign(scope: Scope) -> str | None:
    """Return what shows that a proxy has forwarded the request, None if nothing does.

    Signs are each header that proxies add; HTTP/1.0, which nginx speaks to its upstreams unless it is told otherwise;
    a Host that is an address of another machine, a public name, missing or sent twice.
    """
    hosts = []
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name in _NAMES:
            return str(name.decode())
        elif name.startswith(_PREFIXES):
            # Not the name, which is the sender's choice: what is returned has few values.
            return next(prefix for prefix in _PREFIXES if name.startswith(prefix)).decode() + "*"
    if scope.get("http_version") == "1.0":
        return "HTTP/1.0"
    if len(hosts) != 1 or _is_foreign(hosts[0], scope.get("server")):
        return "host"
    return None


def _is_foreign(host: bytes, server: tuple[str, int | None] | None) -> bool:
    """Return True if a Host header names another machine, as far as that can be told."""
    match = _HOST.fullmatch(host)
    if match is None:
        return True
    name = match[1].decode("latin-1").lower().removesuffix(".")
    address = parse_address(name)
    if address is None:
        own_name = _own_name()
        is_own = name == own_name or name.startswith(f"{own_name}.")
        return "." in name and not is_own and not name.endswith(_PRIVATE_DOMAINS)
    own = parse_address(server[0]) if server else None
    # The loopback address is one of any machine: of a port that is forwarded, for instance.
    return own is not None and address != own and not address.is_loopback


@cache
def _own_name() -> str:
    return socket.gethostname().lower()
