"""Addresses in one form: however they are written, the same client is the same address."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.monitoring.addresses import (
    embedded_address,
    normalised_host,
    normalised_network,
    parse_address,
    parse_network,
    written_port,
)

V4, V6 = "198.51.100.7", "2001:db8::7"
FORMS = {
    V4: [
        "198.51.100.7:443",
        "198.51.100.7/32",
        " 198.51.100.7 ",
        '"198.51.100.7"',
        "'198.51.100.7:1'",
        "[198.51.100.7]:80",
        "::ffff:198.51.100.7",
        "::FFFF:c633:6407",
        "0:0:0:0:0:ffff:c633:6407",
        "[::ffff:198.51.100.7]:443",
        '"[::ffff:198.51.100.7%eth0]:443"',
        "::ffff:198.51.100.7/128",
        "64:ff9b::c633:6407",
        "64:ff9b:1::198.51.100.7",
        "64:ff9b:1:abcd::198.51.100.7",
    ],
    V6: [
        "2001:DB8:0::7",
        "[2001:db8::7]",
        '"[2001:db8::7]:4711"',
        "2001:db8::7%eth0",
        "[2001:db8::7%25eth0]:1",
        "2001:db8::7/128",
    ],
}
NO_ADDRESS = [
    "",
    "unknown",
    "_hidden",
    "198.51.100",
    "198.51.100.7/24",
    "2001:db8::7/64",
    "198.51.100.007",
    "198.51.100.7:",
    "[198.51.100.7",
    "١٩٨.51.100.7",
    "for=198.51.100.7",
    "7" * 4_000,
    "/run/app.sock",
    "::ffff:999.1.1.1",
]


@pytest.mark.parametrize("address", FORMS)
def test_every_form_of_an_address_is_the_same(address: str) -> None:
    assert [form for form in FORMS[address] if parse_address(form) != ip_address(address)] == []


def test_what_is_no_address_is_none() -> None:
    assert [text for text in NO_ADDRESS if parse_address(text) is not None] == []


def test_an_internal_address_in_the_public_nat64_prefix_is_made_up() -> None:
    for inner in ("10.0.0.1", "127.0.0.1", "172.16.0.1", "192.168.1.1"):
        assert parse_address(f"64:ff9b::{inner}") == IPv6Address(f"64:ff9b::{inner}")
    assert parse_address("64:ff9b:1::10.0.0.1") == IPv4Address("10.0.0.1"), "the operator's own prefix has them"
    assert parse_address("64:ff9b:1::127.0.0.1") == IPv6Address("64:ff9b:1::7f00:1"), "nobody translates loopback"
    assert parse_address("64:ff9b:1:a00:0:100::") == IPv6Address("64:ff9b:1:a00:0:100::")


@pytest.mark.parametrize(
    ("text", "port"), [("198.51.100.7:443", 443), ("[2001:db8::7]:80", 80), (V6, 0), (V4, 0), ("[::1]", 0), ("x:1", 0)]
)
def test_a_port_is_read_behind_an_address_only(text: str, port: int) -> None:
    assert written_port(text) == port


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.7", "10.0.0.7/32"),
        ("127.0.0.1/32", "127.0.0.1/32"),
        ("'10.0.0.0/8'", "10.0.0.0/8"),
        ("fe80::1%eth0", "fe80::1/128"),
        ("::/0", "::/0"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_networks_have_one_form_too(text: str, network: str) -> None:
    assert parse_network(text) == ip_network(network)
    assert normalised_network(parse_network(text)) == ip_network(network)


@pytest.mark.parametrize("text", ["10.0.0.7/8", "10.0.0.0/33", "office", "", "10.0.0.0/8 10.1.0.0/16"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_network(text)


def test_a_sockets_host_that_is_no_address_stays() -> None:
    assert [normalised_host(host) for host in ("testclient", "/run/a:b.sock", "::ffff:10.0.0.1", "fe80::1%eth0")] == [
        "testclient",
        "/run/a:b.sock",
        "10.0.0.1",
        "fe80::1",
    ]


@settings(max_examples=100)
@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=4)), st.integers(0, 65_535), st.sampled_from(["", '"', "'"]))
def test_every_writing_of_every_address_is_parsed(address: IPv4Address | IPv6Address, port: int, quote: str) -> None:
    meant = embedded_address(address)
    forms = [str(address), f"{address}/{address.max_prefixlen}"]
    forms += [f"{address}:{port}"] if address.version == 4 else [f"[{address}]:{port}", f"[{address.exploded}]"]
    assert {parse_address(f" {quote}{form}{quote} ") for form in forms} == {meant}
    assert embedded_address(meant) == meant


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=140), st.from_regex(r"[\[\]\"'0-9a-f:.%/ ]{0,60}", fullmatch=True)))
def test_no_text_raises(text: str) -> None:
    parsed = parse_address(text)
    assert parsed is None or parse_address(str(parsed)) == parsed
    assert 0 <= written_port(text) < 100_000
    assert isinstance(normalised_host(text), str)
