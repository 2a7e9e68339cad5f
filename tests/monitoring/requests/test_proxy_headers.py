"""The client as trusted proxies name it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.monitoring.options import Options, OptionsError
from app.monitoring.requests.proxy_headers import ProxyHeadersMiddleware

CLIENT = "198.51.100.7"
PROXY = "10.0.0.7"


async def seen(trusted: str, peer: str | None, *headers: tuple[str, str], kind: str = "http") -> dict[str, Any]:
    """Return the scope that an application sees."""
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    scope = {
        "type": kind,
        "scheme": "ws" if kind == "websocket" else "http",
        "client": None if peer is None else (peer, 40_000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    await ProxyHeadersMiddleware(app, trusted=trusted)(scope, None, None)  # type: ignore[arg-type]
    return found


async def client(trusted: str, peer: str | None, *forwarded: str) -> Any:
    return (await seen(trusted, peer, *(("X-Forwarded-For", value) for value in forwarded)))["client"]


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.7", "::ffff:10.0.0.7"),
        ("10.0.0.7/32", "::ffff:a00:7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.7"),
        ("'10.0.0.7' , 127.0.0.1", "10.0.0.7"),
        ("fe80::/64", "fe80::1%eth0"),
        ("fe80::1%eth0", "fe80::1%eth1"),
        ("*", "203.0.113.1"),
        ("*", None),
    ],
)
async def test_a_proxy_is_trusted_in_every_form(trusted: str, peer: str | None) -> None:
    assert await client(trusted, peer, CLIENT) == (CLIENT, 0)


@pytest.mark.parametrize(("trusted", "peer"), [("10.0.0.7", "10.0.0.8"), ("", "127.0.0.1"), ("10.0.0.7", None)])
async def test_any_other_peer_is_the_client(trusted: str, peer: str | None) -> None:
    assert await client(trusted, peer, CLIENT) == (None if peer is None else (peer, 40_000))


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("198.51.100.7:443", (CLIENT, 443)),
        ('"[::ffff:198.51.100.7]:443"', (CLIENT, 443)),
        ("[2001:db8::1%eth0]:80", ("2001:db8::1", 80)),
        ("198.51.100.7/32", (CLIENT, 0)),
        ("64:ff9b::c633:6407", (CLIENT, 0)),
    ],
)
async def test_a_client_has_one_form(written: str, found: tuple[str, int]) -> None:
    assert await client(PROXY, PROXY, written) == found
    assert await client("*", PROXY, f"{written}, 203.0.113.1") == found


async def test_the_nearest_untrusted_address_is_the_client() -> None:
    assert await client("10.0.0.0/8", PROXY, "1.1.1.1, 198.51.100.7, ::ffff:10.9.9.9, 10.1.1.1") == (CLIENT, 0)
    assert await client("10.0.0.0/8", PROXY, "1.1.1.1", "198.51.100.7", "10.1.1.1") == (CLIENT, 0)
    assert await client("10.0.0.0/8", PROXY, "10.1.1.1, 10.2.2.2") == ("10.1.1.1", 0)


@pytest.mark.parametrize("written", ["unknown", "_hidden", "", "x" * 9_000, "198.51.100.7 evil", "1.1.1.1, unknown"])
async def test_behind_an_entry_that_is_no_address_the_nearest_hop_is_the_client(written: str) -> None:
    assert await client("10.0.0.0/8", PROXY, written) == (PROXY, 40_000)
    assert await client("10.0.0.0/8", PROXY, f"{written}, 10.1.1.1") == ("10.1.1.1", 0)


@pytest.mark.parametrize(
    ("kind", "given", "scheme"),
    [
        ("http", "https", "https"),
        ("http", " wss ", "wss"),
        ("http", "gopher", "http"),
        ("websocket", "https", "wss"),
        ("websocket", "http", "ws"),
        ("websocket", "gopher", "ws"),
    ],
)
async def test_the_scheme_is_a_known_one(kind: str, given: str, scheme: str) -> None:
    assert (await seen(PROXY, PROXY, ("X-Forwarded-Proto", given), kind=kind))["scheme"] == scheme
    assert (await seen("", PROXY, ("X-Forwarded-Proto", "https")))["scheme"] == "http"


@pytest.mark.parametrize("value", ["10.0.0.7/8", "*, 10.0.0.7", "proxy.internal", "10.0.0.0/33"])
def test_what_is_no_proxy_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(OptionsError, match=r"FORWARDED_ALLOW_IPS.*want addresses or networks such as"):
        Options.read({"service": "shop"}, {"FORWARDED_ALLOW_IPS": value})


@settings(max_examples=100)
@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=4))
async def test_no_header_raises_or_makes_up_a_client(values: list[str]) -> None:
    host, _ = await client("10.0.0.0/8", PROXY, *values)
    assert host == PROXY or any(host in value or ":" in value for value in values)
