"""Raw HTTP on a socket. Client libraries hide bytes that follow the response to a HEAD."""

import socket
from dataclasses import dataclass

NO_BODY = {204, 304}


@dataclass(frozen=True)
class Answer:
    """One answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request in HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(port: int, *requests: bytes) -> bytes:
    """Send `requests` at once on one connection and return every byte until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"".join(requests))
        received = b""
        while part := connection.recv(1 << 16):
            received += part
        return received


def answers(received: bytes, *methods: str) -> list[Answer]:
    """Split bytes into the responses to `methods`, in order. Fail if a byte is missing or left over."""
    found = []
    for method in methods:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, f"{method}: no head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), f"{method}: no status line: {first!r}"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        length = 0 if method == "HEAD" or status in NO_BODY else int(headers["content-length"])
        assert len(received) >= length, f"{method}: {length} bytes are announced, {len(received)} have come"
        found.append(Answer(status, headers, received[:length]))
        received = received[length:]
    assert received == b"", f"after the last answer: {received[:100]!r}"
    return found


def talk(port: int, *requests: bytes) -> list[Answer]:
    """Return the responses to `requests` on one connection; the last request has to close it."""
    return answers(exchange(port, *requests), *(one.split(b" ", 1)[0].decode() for one in requests))
