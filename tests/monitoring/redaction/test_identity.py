"""Addresses are kept as networks, users as keyed hashes."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.addresses import embedded_address
from app.monitoring.redaction import (
    REDACTED,
    redact_event,
    redact_text,
    sanitised_address,
    sanitised_user,
)

KEY = b"a key of the deployment"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("198.51.100.7/32", "198.51.100.0/24"),
        ("198.51.100.0/24", "198.51.100.0/24"),
        ("198.51.0.0/16", "198.51.0.0/16"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::1", "::/48"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),
        ("2002:c633:6407::1", "198.51.100.0/24"),  # 6to4
        (None, "local"),
        ("", "local"),
        ("/run/app.sock", "local"),
        ("198.51.100.7:80", "local"),
        ("testclient", "local"),
        ("1" * 100_000, "local"),
    ],
)
def test_an_address_is_cut_to_its_network(address: str | None, network: str) -> None:
    assert sanitised_address(address) == network
    assert sanitised_address(network) == network


@given(st.ip_addresses())
def test_no_whole_address_is_kept(address: Any) -> None:
    network = ipaddress.ip_network(sanitised_address(str(address)))
    inner = embedded_address(address)
    inner = getattr(inner, "sixtofour", None) or inner
    assert network.prefixlen == (24 if inner.version == 4 else 48)
    assert inner in network


@given(
    st.ip_addresses(network="0.0.0.0/0"),
    st.sampled_from(["{}", "from {}.", '"{}"', "{}:54321 - GET", "a,{},b", "[{}]"]),
)
def test_public_addresses_in_a_text_are_networks_and_others_stay(address: ipaddress.IPv4Address, form: str) -> None:
    text = redact_text(form.format(address))
    if address.is_global or address in ipaddress.ip_network("198.51.100.0/24"):
        assert (str(address) in text) == (address.packed[3] == 0 or address.is_multicast)
    if address.is_loopback or address in ipaddress.ip_network("10.0.0.0/8"):
        assert str(address) in text


def test_a_user_is_the_same_pseudonym_wherever_the_key_is_the_same() -> None:
    assert sanitised_user(42, KEY) == sanitised_user("42", KEY) == sanitised_user(42, bytes(KEY))
    assert sanitised_user(42, KEY) != sanitised_user(43, KEY)
    assert sanitised_user(42, KEY) != sanitised_user(42, KEY + b"!")
    assert sanitised_user("\ud800", KEY)


def test_a_pseudonym_has_a_form_of_its_own() -> None:
    name = sanitised_user("wayan@example.com", KEY)
    assert name.startswith("u-")
    assert len(name) == 18
    assert set(name[2:]) <= set("0123456789abcdef")
    assert redact_text(f"user_id={name} asked") == f"user_id={name} asked"


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 15])
def test_a_key_that_can_be_guessed_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=f"has {len(key)} bytes: want 16 or more"):
        sanitised_user(42, key)


def test_an_event_keeps_its_user_by_the_callers_key_only() -> None:
    name = sanitised_user(42, KEY)
    assert redact_event({"user_id": 42}, user_key=KEY) == {"user_id": name}
    assert redact_event({"deep": [{"userId": 42}]}, user_key=KEY) == {"deep": [{"userId": name}]}
    assert redact_event({"enduser.id": "42"}, user_key=KEY) == {"enduser.id": name}
    assert redact_event({"user_id": name}, user_key=KEY) == redact_event({"user_id": name}) == {"user_id": name}
    assert redact_event({"user_id": 42}) == {"user_id": REDACTED}
    assert redact_event({"user_id": None}) == {"user_id": None}
