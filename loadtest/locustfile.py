"""Locust users that behave like the agency's visitors: `locust -f loadtest/locustfile.py --host http://localhost:8000`.

Each request is named after its route, as the service names it in its metrics. Every task sends one request, at a
constant rate whatever the last one took; a task that begins late all the same is counted, because a user who waits for
an answer hides the slowness of the next (coordinated omission). With --ledger each request is written down as it was
seen here.
"""

import json
import os
import random
import signal
import time
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import gevent
from locust import FastHttpUser, constant_throughput, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

API = "/api/v1"
KNOWN_PLACES = ["tanah-lot", "uluwatu-temple", "tegallalang-rice-terraces"]
SEARCHES = ["temple", "beach sunset", "waterfall", "rice terrace", "market", "mountain", "snorkelling"]
INTERESTS = ["waterfall", "culture", "beach", "temple", "hiking", "food"]


class Ledger:
    """Writes one JSON array a request, and the totals as an object at the end."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.with_suffix(f".{os.getpid()}.jsonl").open("w")

    def note(
        self, request_type: str, name: str, response_time: float, response: Any, start_time: float, **_: Any
    ) -> None:
        """One request has ended, well or not."""
        status = getattr(response, "status_code", 0) or 0
        line = [start_time, request_type, name, status, response_time / 1000]
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Nothing more will come."""
        self._file.write(json.dumps({"tasks": Traveller.tasks_begun, "late": Traveller.tasks_late}) + "\n")
        self._file.close()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: LocustArgumentParser) -> None:
    """--ledger."""
    parser.add_argument("--ledger", metavar="PATH", default="", help="write each request to PATH with .<pid>.jsonl")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Write down every request from now on, and end in order on SIGUSR1.

    On SIGTERM Locust leaves its HTML report out.
    """
    assert environment.runner is not None  # noqa: S101 -- made before this event
    gevent.signal_handler(signal.SIGUSR1, environment.runner.quit)
    path = getattr(environment.parsed_options, "ledger", "")
    if path:
        ledger = Ledger(Path(path))
        events.request.add_listener(ledger.note)  # type: ignore[no-untyped-call]
        events.quit.add_listener(lambda **_: ledger.close())  # type: ignore[no-untyped-call]


class Traveller(FastHttpUser):
    """Somebody who sends requests at a constant rate."""

    abstract = True
    rate = 1.0
    tasks_begun = 0
    tasks_late = 0

    def on_start(self) -> None:
        """Begin at a random moment of the interval, so that users who came together do not knock together."""
        time.sleep(random.random() / self.rate)  # noqa: S311 -- load, no secret

    def wait_time(self) -> float:
        """Seconds until the next request."""
        pause = self.pacing()
        Traveller.tasks_begun += 1
        Traveller.tasks_late += pause == 0
        return pause

    def pacing(self) -> float:
        """The library's wait time at this class's rate."""
        raise NotImplementedError


class Visitor(Traveller):
    """Looks for places and reads about those it has found."""

    weight = 5
    rate = 1.0
    pacing = constant_throughput(rate)

    def on_start(self) -> None:
        """Nothing is found yet."""
        super().on_start()
        self.found: list[str] = []

    @task(4)
    def search(self) -> None:
        words = random.choice(SEARCHES).replace(" ", "+")  # noqa: S311
        answer = self.client.get(f"{API}/destinations?q={words}&limit=10", name=f"{API}/destinations")
        if answer.status_code == HTTPStatus.OK:
            self.found = [place["slug"] for place in answer.json()["items"]]

    @task(4)
    def read(self) -> None:
        self.client.get(f"{API}/destinations/{self.place()}", name=f"{API}/destinations/{{slug}}")

    @task(2)
    def read_reviews(self) -> None:
        self.client.get(f"{API}/destinations/{self.place()}/reviews", name=f"{API}/destinations/{{slug}}/reviews")

    @task(1)
    def review(self) -> None:
        self.client.post(
            f"{API}/destinations/{self.place()}/reviews",
            json={"rating": random.randint(3, 5), "text": "Worth the way."},  # noqa: S311
            name=f"{API}/destinations/{{slug}}/reviews",
        )

    def place(self) -> str:
        """One of the places that the last search has found, or one that everybody knows."""
        return random.choice(self.found or KNOWN_PLACES)  # noqa: S311


class Planner(Traveller):
    """Asks the AI concierge; each wish is new, so that no cache answers it."""

    weight = 4
    rate = 0.5
    pacing = constant_throughput(rate)

    @task
    def chat(self) -> None:
        question = f"Where is it quiet, {random.randint(1, 10**6)}?"  # noqa: S311
        self.client.post(f"{API}/assistant/chat", json={"message": question}, name=f"{API}/assistant/chat")

    @task
    def plan(self) -> None:
        wishes = {"days": 1, "interests": random.sample(INTERESTS, 2), "budget": random.randint(1, 10**8)}  # noqa: S311
        self.client.post(f"{API}/assistant/itineraries", json=wishes, name=f"{API}/assistant/itineraries")


class Inquirer(Traveller):
    """Writes to the agency."""

    weight = 1
    rate = 0.25
    pacing = constant_throughput(rate)

    @task
    def inquire(self) -> None:
        inquiry = {
            "name": "Load test",
            "email": "load-test@example.com",
            "message": "Two weeks in June.",
            "party_size": random.randint(1, 6),  # noqa: S311
        }
        self.client.post(f"{API}/inquiries", json=inquiry, name=f"{API}/inquiries")
