"""A receiver of Alertmanager's notifications for one machine: one JSON line each on standard output, and a page.

It keeps the latest notifications in memory and pages nobody: replace it before production
(monitoring/alertmanager.yml).
Standard library only, so that the backend's image runs this file alone.
"""

import html
import json
import os
import signal
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

PAGES, TICKETS, HEARTBEAT = "/pages", "/tickets", "/heartbeat"
"""Paths of the receivers of alertmanager.yml."""
KEPT: Final = 200
MAX_BODY_BYTES: Final = 1 << 20
LATE_SECONDS: Final = 300
"""Without a heartbeat for this long, no other alert would arrive either. The Watchdog's comes every minute."""

COLUMNS = ("received", "status", "severity", "alert", "summary", "description", "links")
LINKS = {"runbook_url": "runbook", "dashboard_url": "dashboard"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="15"><title>Notifications</title>
<style>body{{font-family:sans-serif}}td,th{{padding:.3em .8em;text-align:left;vertical-align:top}}
.firing{{background:#fdd}}.resolved{{background:#dfd}}</style></head>
<body><h1>Notifications</h1><p>{heartbeat}</p><table><tr>{head}</tr>
{rows}
</table></body></html>
"""


class Alert(NamedTuple):
    """One alert of a notification. `received` is the time of its arrival, `source` the expression's graph."""

    received: datetime
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    source: str

    @classmethod
    def parse(cls, received: datetime, given: dict[str, Any]) -> "Alert":
        """Return the alert in Alertmanager's webhook format; raise ValueError if it is not one."""
        labels, annotations = given.get("labels"), given.get("annotations", {})
        if not isinstance(labels, dict) or not isinstance(annotations, dict) or "alertname" not in labels:
            raise ValueError("an alert without labels")
        return cls(
            received,
            str(given.get("status")),
            {str(name): str(value) for name, value in labels.items()},
            {str(name): str(value) for name, value in annotations.items()},
            str(given.get("generatorURL", "")),
        )

    def line(self, path: str) -> str:
        """Return the log line of an alert that came to `path`."""
        beat = path == HEARTBEAT
        event = {
            "timestamp": self.received.isoformat(timespec="milliseconds"),
            "level": "info" if beat or self.status == "resolved" else "warning",
            "event": "heartbeat" if beat else f"alert_{self.status}",
            "logger": "alert_receiver",
            "alert": self.labels["alertname"],
            "labels": self.labels,
            "annotations": self.annotations,
        }
        return json.dumps(event, separators=(",", ":"))

    def row(self) -> str:
        """Return the row of the page's table."""
        addresses = {text: self.annotations.get(name, "") for name, text in LINKS.items()} | {"source": self.source}
        links = [
            f'<a href="{html.escape(address)}">{text}</a>'
            for text, address in addresses.items()
            if address.startswith(("http://", "https://"))  # and nothing that runs as a script
        ]
        texts = (
            f"{self.received:%Y-%m-%d %H:%M:%S}",
            self.status,
            self.labels.get("severity", ""),
            self.labels["alertname"],
            self.annotations.get("summary", ""),
            self.annotations.get("description", ""),
        )
        cells = [*map(html.escape, texts), " ".join(links)]
        return f'<tr class="{html.escape(self.status)}"><td>{"</td><td>".join(cells)}</td></tr>'


class Received:
    """The latest alerts, newest first, and the time of the latest heartbeat. Thread-safe."""

    def __init__(self, started: datetime) -> None:
        self.started = started
        self.heartbeat: datetime | None = None
        self.alerts: deque[Alert] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def take(self, path: str, message: Any, now: datetime) -> list[Alert]:
        """Keep and return the alerts of one message; raise ValueError if it is no message of Alertmanager."""
        if not isinstance(message, dict) or not isinstance(message.get("alerts"), list):
            raise ValueError("no list of alerts")  # noqa: TRY004 -- of the message, and not of a type
        if not all(isinstance(one, dict) for one in message["alerts"]):
            raise ValueError("an alert that is no object")
        alerts = [Alert.parse(now, one) for one in message["alerts"]]
        with self._lock:
            if path == HEARTBEAT:
                self.heartbeat = now
            else:
                self.alerts.extendleft(alerts)
        return alerts

    def page(self, now: datetime) -> str:
        """Return the page, in HTML."""
        with self._lock:
            rows = [alert.row() for alert in self.alerts]
        since = int((now - (self.heartbeat or self.started)).total_seconds())
        text = f"Last heartbeat: {since} s ago." if self.heartbeat else f"No heartbeat in {since} s."
        if since > LATE_SECONDS:
            text = f"<strong>{text} It should come every minute: other alerts would not arrive either.</strong>"
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return PAGE.format(heartbeat=text, head=head, rows="\n".join(rows) or "<tr><td>none yet</td></tr>")


class Handler(BaseHTTPRequestHandler):
    """POST /pages, /tickets and /heartbeat take notifications, GET / shows them, GET /health answers 200."""

    server: "Server"
    protocol_version = "HTTP/1.1"
    server_version = "alert-receiver"
    sys_version = ""
    timeout = 10  # seconds without a byte

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(HTTPStatus.OK, self.server.received.page(datetime.now(UTC)), "text/html; charset=utf-8")
        elif self.path == "/health":
            self._answer(HTTPStatus.OK, "ok\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "not found\n")

    def do_POST(self) -> None:
        self.close_connection = True  # a body that is refused is not read
        length = self.headers.get("Content-Length", "")
        if self.path not in (PAGES, TICKETS, HEARTBEAT):
            self._answer(HTTPStatus.NOT_FOUND, "not found\n")
        elif self.headers.get_content_type() != "application/json":  # which no web page of another origin can send
            self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "want application/json\n")
        elif not (length.isascii() and length.isdigit() and int(length) <= MAX_BODY_BYTES):
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"want a Content-Length up to {MAX_BODY_BYTES}\n")
        else:
            self._take(self.rfile.read(int(length)))

    def _take(self, body: bytes) -> None:
        try:
            alerts = self.server.received.take(self.path, json.loads(body), datetime.now(UTC))
        except (ValueError, RecursionError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, f"no notification of Alertmanager: {error}\n")
            return
        sys.stdout.write("".join(f"{alert.line(self.path)}\n" for alert in alerts))
        sys.stdout.flush()
        self._answer(HTTPStatus.NO_CONTENT, "")

    def _answer(self, status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log notifications only, not requests."""


class Server(ThreadingHTTPServer):
    """The receiver at an address (host, port); port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.received = Received(datetime.now(UTC))


def main() -> None:
    """Serve until SIGTERM or SIGINT, which the first process of a container has to handle itself."""
    with Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "9095")))) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main()
