"""A webhook receiver in place of a paging service. It records the notifications of Alertmanager and their times."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtest.serving import serving


@dataclass(frozen=True)
class Notification:
    """One alert in one message. `at` is Unix time, `status` firing or resolved, `receiver` the path it came to."""

    at: float
    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def alert(self) -> str:
        """Its name."""
        return self.labels["alertname"]


@dataclass
class Receiver:
    """The received messages, in order."""

    url: str = ""
    notifications: list[Notification] = field(default_factory=list)

    async def receive(self, request: Request) -> Response:
        """Write down one message."""
        now, message = time.time(), await request.json()
        self.notifications += [
            Notification(now, request.url.path.strip("/"), alert["status"], alert["labels"], alert["annotations"])
            for alert in message["alerts"]
        ]
        return Response(status_code=204)

    def first(self, alert: str, status: str) -> Notification | None:
        """Return the first notification of this alert with this status."""
        return next((one for one in self.notifications if (one.alert, one.status) == (alert, status)), None)

    def as_list(self) -> list[dict[str, Any]]:
        """Return every notification, for the results."""
        return [
            {"at": one.at, "receiver": one.receiver, "status": one.status, **one.labels} for one in self.notifications
        ]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Listen on a free port of the loopback."""
    listening = Receiver()
    routes = [Route(path, listening.receive, methods=["POST"]) for path in ("/alerts", "/heartbeat")]
    async with serving(Starlette(routes=routes)) as address:
        listening.url = address
        yield listening
