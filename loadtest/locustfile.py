"""Locust users that behave like the agency's visitors: `locust -f loadtest/locustfile.py --host http://localhost:8000`.

Each request is named after its route, as the service names it in its metrics. Every task sends one request, at a
constant rate whatever the last one took.
"""

import random
import time
from http import HTTPStatus

from locust import FastHttpUser, constant_throughput, task

API = "/api/v1"
KNOWN_PLACES = ["tanah-lot", "uluwatu-temple", "tegallalang-rice-terraces"]
SEARCHES = ["temple", "beach sunset", "waterfall", "rice terrace", "market", "mountain", "snorkelling"]
INTERESTS = ["waterfall", "culture", "beach", "temple", "hiking", "food"]


class Traveller(FastHttpUser):
    """A user who sends requests at a constant rate."""

    abstract = True
    rate = 1.0

    def on_start(self) -> None:
        """Begin at a random moment of the interval, so that users who came together do not knock together."""
        time.sleep(random.random() / self.rate)  # noqa: S311 -- load, no secret


class Visitor(Traveller):
    """Looks for places and reads about those it has found."""

    weight = 5
    rate = 1.0
    wait_time = constant_throughput(rate)

    def on_start(self) -> None:
        """Start without search results."""
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
        """Return one of the places that the last search found, or a well-known one."""
        return random.choice(self.found or KNOWN_PLACES)  # noqa: S311


class Planner(Traveller):
    """Asks the AI concierge; each wish is new, so that no cache answers it."""

    weight = 4
    rate = 0.5
    wait_time = constant_throughput(rate)

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
    wait_time = constant_throughput(rate)

    @task
    def inquire(self) -> None:
        inquiry = {
            "name": "Load test",
            "email": "load-test@example.com",
            "message": "Two weeks in June.",
            "party_size": random.randint(1, 6),  # noqa: S311
        }
        self.client.post(f"{API}/inquiries", json=inquiry, name=f"{API}/inquiries")
