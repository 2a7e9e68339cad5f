"""Public addresses in running text, cut to their networks as client addresses are.

Private and loopback addresses and hosts of URLs stay: they belong to the service's own infrastructure.
"""

import ipaddress
import re

from .identity import sanitised_address

_IPV4 = re.compile(r"\d(?<![\w.%].)\d{0,2}(?:\.\d{1,3}){3}(?!\w)(?!\.\d)(?!-\w)")
_IPV6 = re.compile(r"(?:[23](?<![\w:.].)[0-9A-Fa-f]{3}|6(?<![\w:.].)4:ff9b):[0-9A-Fa-f:.]{1,40}[0-9A-Fa-f:](?![\w:])")
# Chrome/126.0.6478.61, version 4.18.2.1, ==1.2.3.4; and hosts: https://198.51.100.7/, @198.51.100.7, [2001:...]
_NO_CLIENT_BEFORE = re.compile(
    r"""(?: //\[? | @\[? | (?:^|[\s"'(=\\>])[\w.+-]{1,32}/ | [=~<>!]=[ ]? | -
    | (?i:\b(?:version|ver|release|build))(?:[ .:=-]|%20){0,2} )\Z""",
    re.VERBOSE,
)


def redact_networks(text: str) -> str:
    """Return `text` with public addresses replaced by their networks."""
    if text.count(":") > 1:  # before IPv4, which an IPv6 address may end with
        text = _IPV6.sub(_network, text)
    if text.count(".") > 2:  # noqa: PLR2004
        text = _IPV4.sub(_network, text)
    return text


def _network(match: re.Match[str]) -> str:
    written = match[0]
    if written.endswith(":") and not written.endswith("::"):  # of the sentence
        written = written[:-1]
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return match[0]
    network = sanitised_address(written)
    if network.partition("/")[0] == str(address) or _stays(address):  # a network already
        return match[0]
    start = match.start()
    if _NO_CLIENT_BEFORE.search(match.string, max(0, start - 40), start):
        return match[0]
    return network + match[0][len(written) :]


def _stays(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        return False
    first, second = address.packed[:2]
    return (
        first in (0, 10, 127)
        or first >= 224  # noqa: PLR2004 -- multicast and reserved
        or (first, second) in ((169, 254), (192, 168))
        or (first == 172 and 16 <= second < 32)  # noqa: PLR2004
    )
