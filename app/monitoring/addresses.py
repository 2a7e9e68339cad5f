"""Addresses of clients and proxies in one form: parsed where they enter, and compared as objects afterwards.

A dual-stack socket sees an IPv4 client as ::ffff:198.51.100.7, and proxies write ports, brackets, quotes, zones and
prefix lengths. Without one form such a client escapes its rate limit, its proxy's trust and its network's permission.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["normalised_host", "parse_address", "parse_network"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# The longest text that is parsed: an IPv6 address with zone, brackets, quotes and port is shorter.
MAX_LENGTH = 128
MAPPED = IPv6Network("::ffff:0:0/96")
# RFC 6052. It must not carry internal IPv4 addresses, so one in it was made up by its sender.
NAT64 = IPv6Network("64:ff9b::/96")
# RFC 8215: for prefixes that an operator chooses, of which those of 96 bits are recognised.
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
# fmt: off
_INTERNAL = tuple(map(IPv4Network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
)))
# fmt: on
# "[2001:db8::1]:443", "[fe80::1%eth0]", 198.51.100.7:80
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]{2,45}(?:%[^\]]*)?)\](?::\d{0,5})?")
_IPV4_AND_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5})")
_PORT = re.compile(r":(\d{1,5})\Z")


def parse_address(written: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `written` names, None if it names none.

    It may be quoted, bracketed, have a port, a zone or the prefix length of a single address. IPv4 addresses in IPv6
    ones, mapped or translated by NAT64, are returned as IPv4. Zones are dropped.
    """
    return _parsed(written) if len(written) <= MAX_LENGTH else None


@lru_cache(maxsize=4096)
def _parsed(written: str) -> Address | None:
    bare = written.strip().strip("\"'").strip()
    match = _BRACKETED.fullmatch(bare) or _IPV4_AND_PORT.fullmatch(bare)
    host, _, length = (match[1] if match else bare).partition("/")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if length and length != str(address.max_prefixlen):  # a network names no client
        return None
    return embedded_address(address)


def written_port(written: str) -> int:
    """Return the port that is written behind an address, 0 if none is."""
    bare = written.strip().strip("\"'").strip()
    match = _PORT.search(bare) if _BRACKETED.fullmatch(bare) or _IPV4_AND_PORT.fullmatch(bare) else None
    return int(match[1]) if match else 0


def embedded_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, mapped or by NAT64; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in NAT64:
        return address if contains(_INTERNAL, inner) else inner
    if address in LOCAL_NAT64 and not int(address) >> 32 & 0xFFFF_FFFF:
        return address if inner.is_loopback or inner.is_unspecified else inner
    return address


def normalised_host(host: str) -> str:
    """Return a socket's address in its one form. What is no address, such as a path, is returned as it is."""
    if ":" not in host:  # IPv4, or the path of a Unix socket
        return host
    address = parse_address(host)
    return host if address is None else str(address)


def parse_network(written: str, *, strict: bool = True) -> IPv4Network | IPv6Network:
    """Return the network that `written` names, a single address being one. IPv4-mapped networks are returned as IPv4.

    Raise ValueError if it names none, or with `strict` if its address has bits beyond its prefix length.
    """
    bare = written.strip().strip("\"'").strip()
    single = parse_address(bare)
    return normalised_network(ip_network(bare, strict=strict)) if single is None else ip_network(single)


def normalised_network(network: Network) -> Network:
    """Return an IPv4-mapped network as IPv4; any other is returned as it is."""
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        inner = IPv4Address(int(network.network_address) & 0xFFFF_FFFF)
        return IPv4Network((inner, network.prefixlen - MAPPED.prefixlen))
    return network


def contains(networks: Iterable[Network], address: Address) -> bool:
    """Return True if one of `networks` contains the address."""
    return any(address in network for network in networks)
