"""Encoding of Prometheus's XOR chunks, and the integers and checksums of its files."""

import struct
from collections.abc import Iterator, Sequence

MAX_SAMPLES = 120
"""Of a chunk, as Prometheus cuts them."""
MAX_LEADING = 31
CASTAGNOLI = 0x82F63B78
CONTINUED = 0x80  # of a byte that more follow


def uvarint(number: int) -> bytes:
    """Return an unsigned integer, seven bits a byte, the lowest first."""
    found = bytearray()
    while number >= CONTINUED:
        found.append(number % CONTINUED | CONTINUED)
        number >>= 7
    found.append(number)
    return bytes(found)


def varint(number: int) -> bytes:
    """Return a signed integer: the sign is the lowest bit."""
    return uvarint(number << 1 if number >= 0 else (-number << 1) - 1)


def crc32c(data: bytes) -> bytes:
    """Return the CRC-32C of `data` as four bytes, the highest first. zlib has another polynomial."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return struct.pack(">I", crc ^ 0xFFFFFFFF)


def encode(start: int, interval: int, values: Sequence[float]) -> bytes:
    """Return the chunk of `values`, at most 65,535, that are `interval` ms apart from `start` ms on."""
    bits = "".join(_values(values))
    bits += "0" * (-len(bits) % 8)
    first = struct.pack(">d", values[0])
    head = struct.pack(">H", len(values)) + varint(start) + first
    if len(values) == 1:
        return head
    return head + uvarint(interval) + (int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b"")


def _values(values: Sequence[float]) -> Iterator[str]:
    """Yield the bits of each sample but the first. The times are regular: from the third on "0" says so."""
    before = _bits(values[0])
    window: tuple[int, int] | None = None  # leading and trailing zero bits of the last written difference
    for number, value in enumerate(values[1:]):
        if number:
            yield "0"
        bits = _bits(value)
        difference, before = bits ^ before, bits
        if not difference:
            yield "0"
            continue
        leading = min(64 - difference.bit_length(), MAX_LEADING)
        trailing = (difference & -difference).bit_length() - 1
        if window and leading >= window[0] and trailing >= window[1]:
            yield "10"
        else:
            window = leading, trailing
            # 64 significant bits do not fit into six bits, and are written as 0.
            yield f"11{leading:05b}{(64 - leading - trailing) & 63:06b}"
        yield f"{difference >> window[1]:0{64 - window[0] - window[1]}b}"


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack(">d", value), "big")


def _table() -> list[int]:
    found = []
    for number in range(256):
        crc = number
        for _ in range(8):
            crc = crc >> 1 ^ CASTAGNOLI if crc & 1 else crc >> 1
        found.append(crc)
    return found


_TABLE = _table()
