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

# The paths of the webhooks in monitoring/alertmanager.yml.
PAGES, TICKETS, HEARTBEAT = "pages", "tickets", "heartbeat"


@dataclass(frozen=True)
class Notification:
    """One alert in one message. `at` is Unix time, `status` firing or resolved, `receiver` the path it came to."""

    at: float
    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    message: int = 0
    """The number of the message among those received, from 0."""
    group: str = ""
    """Alertmanager's key of the group that the message is about; a paging service has one incident for each."""

    @property
    def alert(self) -> str:
        """Its name."""
        return self.labels["alertname"]


@dataclass
class Receiver:
    """The received messages, in order."""

    url: str = ""
    notifications: list[Notification] = field(default_factory=list)
    messages: int = 0

    async def receive(self, request: Request) -> Response:
        """Write down one message."""
        now, message = time.time(), await request.json()
        path, number, group = request.url.path.strip("/"), self.messages, message.get("groupKey", "")
        self.messages += 1
        self.notifications += [
            Notification(now, path, alert["status"], alert["labels"], alert["annotations"], number, group)
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
    routes = [Route(f"/{path}", listening.receive, methods=["POST"]) for path in (PAGES, TICKETS, HEARTBEAT)]
    async with serving(Starlette(routes=routes)) as address:
        listening.url = address
        yield listening
