"""Private values that the collector must not export, and ordinary values that it must keep."""

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, quote_plus


@dataclass(frozen=True)
class Canary:
    """A planted text and its private part."""

    name: str
    planted: str
    private: str

    def is_in(self, text: str) -> bool:
        """Return True if `text` contains the private part: plain, URL-encoded or escaped as JSON inside JSON."""
        forms = {self.private, quote(self.private), quote(self.private, safe=""), quote_plus(self.private)}
        return any(form in text for form in forms | {form.replace('"', '\\"') for form in forms})


def _whole(name: str, planted: str) -> Canary:
    return Canary(name, planted, planted)


# Recognized by form, in any place.
CANARIES = [
    _whole("e-mail", "made.wirawan@example.com"),
    _whole("phone", "+62 812-3456-7890"),
    _whole("local phone", "081234567891"),
    _whole("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtYWRlIn0.c2lnbmF0dXJlLW9mLW1hZGU"),
    _whole("card", "4539 1488 0343 6467"),
    Canary("password", "password=ubud-sunrise-77", "ubud-sunrise-77"),
    Canary("bearer token", "Bearer 9f8e7d6c5b4a39281706", "9f8e7d6c5b4a39281706"),
]
# Not recognizable by form: only checked where whole values are removed.
WORDS = _whole("words", "my villa stands empty until friday")

# Also recognized by the application's redaction.
KNOWN_TO_THE_APPLICATION = [
    "wayan@example.com",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "Bearer abcdef123456",
    "postgresql://bali:s3cret!x@db.example.com/bali",
    "sk-abcdefgh12345678",
]
# Private values in common forms.
FORMS = [
    *KNOWN_TO_THE_APPLICATION,
    "made%40example.com",
    "made@b\u00fcro.example",
    '{"to":"made@example.com","day":1}',
    "ghp_abcdefghijklmnopqrstuvwx",
    '{"api_key": "abc"}',
    "client_secret=abc",
    "db_password: abc",
    "PGPASSWORD=abc",
    "refreshToken=abc",
    "JSESSIONID=abc",
    "session-id=abc",
    "password%3Dabc",
    "sk_live_abcdefgh12345678",
    "xoxb-1234-5678-abcdef",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "glpat-abcdefghij0123456789",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    "authorization: ApiKey abc",
    "Cookie: remember=abc; b=c",
    "postgresql://bali:pa/ss@db/bali",
    "https://someone@host/",
    "/guests?access_token=abc",
    "4539148803436467",
    "4539-1488-0343-6467",
    "4539\u00a01488\u00a00343\u00a06467",
    "3782 822463 10005",
    "+6281234567890",
    "+1 (415) 555-2671",
    "+62\u00a0812\u00a03456\u00a07890",
    "%2B62%20812%203456%207890",
    "0812-3456-7890",
    "6281234567890",
    "(0361) 123456",
    "0361-123456",
    "NIK: 5171012509900001",
    "123-45-6789",
]
# Client addresses, and the form in which each may be exported.
CLIENTS = {
    "203.0.113.7": "203.0.113.0/24",
    "203.0.113.0/24": "203.0.113.0/24",
    "2001:db8:7::/48": "2001:db8:7::/48",
    "2001:db8:7::1": None,
    "local": "local",
}

# Ordinary values, which must not be changed.
ORDINARY = [
    "/api/v1/destinations/tanah-lot",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "4f1d0aa2-0812-4555-8666-123456789012",
    "2026-11-25T19:19:18.123456+07:00",
    "1764098358123456789",
    "IDR 1500000",
    "-8.409518, 115.188919",
    "1.45.0",
    "1.0.0+20261125",
    "max_tokens: 100",
    "127.0.0.1:5432",
    "SELECT slug, name FROM destinations WHERE slug = $1 AND tags @> $2",
    "EVALSHA ? ? ? ?",
    "ValueError: invalid literal for int() with base 10: 'abc'",
]


def trace_id(seed: str, *, kept: bool, percentage: float) -> str:
    """Return a trace id that a probabilistic policy of `percentage` keeps or drops, the same for equal seeds.

    The policy compares the FNV-1a hash of salt and id with the percentage (tailsamplingprocessor v0.145).
    """
    assert 0 < percentage < 100, "a share that keeps some and drops some"
    number = 0
    while True:
        candidate = hashlib.sha256(f"{seed} {number}".encode()).digest()[:16]
        if (_fnv1a(b"default-hash-seed" + candidate) <= percentage / 100 * 2**64) is kept:
            return candidate.hex()
        number += 1


def _fnv1a(content: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in content:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value
