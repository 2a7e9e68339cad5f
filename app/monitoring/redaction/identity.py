"""Client addresses and user ids in the forms that may be kept: a network, and a keyed hash."""

import hmac
import ipaddress
import re
from functools import lru_cache

from ..addresses import embedded_address

PREFIX_IPV4 = 24
PREFIX_IPV6 = 48
MIN_KEY_BYTES = 16
_SHORT = 128
_SANITISED_USER = re.compile(r"u-[0-9a-f]{16}")
# Addresses with ports, as in lists such as X-Forwarded-For: "[2001:db8::1]:443", 198.51.100.7:80
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.%]{2,64})\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")


def sanitised_address(address: str | None) -> str:
    """Return an address's network: the first 24 bits of IPv4, the first 48 of IPv6; "local" if it is no address.

    An IPv4 address inside IPv6 (::ffff:198.51.100.7, 64:ff9b::198.51.100.7) counts as IPv4. A network of that form is
    its own sanitised form.
    """
    return _network(address) if address and len(address) <= _SHORT else "local"


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    try:
        interface = ipaddress.ip_interface(address.partition("%")[0])
    except ValueError:
        return "local"
    inner = embedded_address(interface.ip)
    if isinstance(inner, ipaddress.IPv6Address):
        inner = inner.sixtofour or inner
    if inner != interface.ip:
        return str(ipaddress.ip_network((inner, PREFIX_IPV4), strict=False))
    longest = PREFIX_IPV4 if interface.version == 4 else PREFIX_IPV6  # noqa: PLR2004
    return str(
        interface.network if interface.network.prefixlen <= longest else interface.network.supernet(new_prefix=longest)
    )


def sanitised_list(text: str) -> str | None:
    """Return a list such as X-Forwarded-For's with networks for addresses; None if it contains anything else."""
    return _short_list(text) if len(text) <= _SHORT else _list(text)


def _list(text: str) -> str | None:
    found = []
    for part in text.split(","):
        bare = part.strip().strip("\"'")
        match = _WITH_PORT.fullmatch(bare)
        network = sanitised_address(match[1] or match[2] if match else bare)
        if network == "local" and bare not in ("local", "unknown", "unix"):
            return None
        found.append(bare if network == "local" else network)
    return ", ".join(found)


_short_list = lru_cache(maxsize=1024)(_list)


def sanitised_user(user_id: object, key: bytes) -> str:
    """Return a user's pseudonym: "u-" and 64 bits of HMAC-SHA256(`key`, the id as text) in hexadecimal.

    The same id has the same pseudonym wherever the key is the same, so lines of one user can be joined; the id
    cannot be found without the key. A `key` of fewer than 16 bytes is a ValueError.
    """
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes: want {MIN_KEY_BYTES} or more, from a secret of the deployment")
    return f"u-{hmac.digest(key, str(user_id).encode('utf-8', 'surrogatepass'), 'sha256').hex()[:16]}"


def is_sanitised_user(value: object) -> bool:
    """Return True if `value` has the form of a pseudonym."""
    return isinstance(value, str) and _SANITISED_USER.fullmatch(value) is not None
