"""The concierge: answers from the upstream model where one is configured, else offline, and counts both."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import orjson

from app.assistant.breaker import CircuitBreaker, CircuitOpen
from app.assistant.planner import Place, Wishes, plan, schedule
from app.assistant.upstream import Completion, Upstream, UpstreamError, UpstreamRejected, UpstreamTimeout
from app.cache.cache import Cache
from app.database import destinations
from app.database.pool import Database
from app.metrics import AIOperation, AIOutcome, Metrics

ITINERARY_TTL_SECONDS = 3600.0
CATALOGUE_TTL_SECONDS = 60.0
MAX_SUGGESTIONS = 5

_CHAT_ROLE = (
    "You are the concierge of a Balinese travel agency. Answer briefly and only about travel on Bali, and use the"
    " places listed below where they fit.\n\n"
)
_PLAN_ROLE = (
    "You plan days on Bali. Choose two to four places for each day out of the list, close to one another, none"
    ' twice. Answer with JSON only: {"days": [["slug", "slug"], ...]}.\n\n'
)


class Concierge:
    """Chat and itineraries. `upstream` None means offline."""

    def __init__(
        self,
        *,
        database: Database,
        cache: Cache,
        metrics: Metrics,
        breaker: CircuitBreaker,
        upstream: Upstream | None,
    ) -> None:
        self._database = database
        self._cache = cache
        self._metrics = metrics
        self.breaker = breaker
        self.upstream = upstream

    async def chat(self, message: str) -> dict[str, Any]:
        """Return an answer to `message`: answer, source ("upstream" or "offline"), model, destinations that it uses."""
        with self._observed("chat"):
            found = await destinations.suggest(self._database, message, MAX_SUGGESTIONS)
            if self.upstream is None:
                return {
                    "answer": _describe(found),
                    "source": "offline",
                    "model": None,
                    "destinations": _brief(found),
                }
            messages = [
                {"role": "system", "content": _CHAT_ROLE + _listing(found)},
                {"role": "user", "content": message},
            ]
            completion = await self._ask("chat", self.upstream, messages)
            return {
                "answer": completion.text,
                "source": "upstream",
                "model": self.upstream.model,
                "destinations": _brief(found),
            }

    async def itinerary(self, wishes: Wishes) -> dict[str, Any]:
        """Return an itinerary with its source and model; the same wishes get the same one for an hour."""
        with self._observed("itinerary"):
            source = self.upstream.model if self.upstream else "offline"
            content = orjson.dumps([source, asdict(wishes)], option=orjson.OPT_SORT_KEYS)
            answer: dict[str, Any] = await self._cache.get_or_load(
                "itineraries",
                hashlib.sha256(content).hexdigest(),
                lambda: self._plan(wishes),
                ttl=ITINERARY_TTL_SECONDS,
                lease=(self.upstream.timeout if self.upstream else 0) + 5,
            )
            return answer

    async def catalogue(self) -> list[Place]:
        """Return every destination, cached for a minute."""
        places: list[Place] = await self._cache.get_or_load(
            "catalogue", "all", lambda: destinations.everything(self._database), ttl=CATALOGUE_TTL_SECONDS
        )
        return places

    async def _plan(self, wishes: Wishes) -> dict[str, Any]:
        catalogue = await self.catalogue()
        if self.upstream is None:
            return {**plan(catalogue, wishes), "source": "offline", "model": None}
        messages = [
            {"role": "system", "content": _PLAN_ROLE + _listing(catalogue)},
            {"role": "user", "content": orjson.dumps(asdict(wishes)).decode()},
        ]
        by_slug = {place["slug"]: place for place in catalogue}
        chosen: list[list[Place]] = []

        def read(completion: Completion) -> None:
            chosen.extend(_read_days(completion.text, by_slug, wishes.days))

        await self._ask("itinerary", self.upstream, messages, json=True, accept=read)
        return {**schedule(chosen), "source": "upstream", "model": self.upstream.model}

    async def _ask(
        self,
        operation: AIOperation,
        upstream: Upstream,
        messages: list[dict[str, str]],
        *,
        json: bool = False,
        accept: Callable[[Completion], None] | None = None,
    ) -> Completion:
        """Ask the upstream inside the circuit; `accept` raises UpstreamError for an answer that cannot be used."""

        async def ask() -> Completion:
            async with self.breaker.guard():
                completion = await upstream.complete(messages, json=json)
                self._metrics.ai_tokens.labels(operation, "prompt").inc(completion.prompt_tokens)
                self._metrics.ai_tokens.labels(operation, "completion").inc(completion.completion_tokens)
                if accept is not None:
                    accept(completion)
                return completion

        return await _finish(ask())

    @contextmanager
    def _observed(self, operation: AIOperation) -> Iterator[None]:
        """Count the request by how it ends, and time it."""
        started = time.perf_counter()
        outcome: AIOutcome = "error"
        try:
            yield
            outcome = "success" if self.upstream else "offline"
        except asyncio.CancelledError:
            outcome = "cancelled"  # the caller went away
            raise
        except UpstreamTimeout:
            outcome = "timeout"
            raise
        except UpstreamRejected:
            outcome = "rejected"
            raise
        except CircuitOpen:
            outcome = "circuit_open"
            raise
        finally:
            self._metrics.ai_requests.labels(operation, outcome).inc()
            self._metrics.ai_request_duration.labels(operation).observe(time.perf_counter() - started)


async def _finish(work: Awaitable[Completion]) -> Completion:
    """Await `work` to its end even if the caller is cancelled: a disconnected client is no failure of the upstream."""
    task = asyncio.ensure_future(work)
    # Retrieve the exception: if the caller was cancelled, asyncio would report it as never retrieved.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait([task])
    return task.result()


def _read_days(text: str, by_slug: dict[str, Place], days: int) -> list[list[Place]]:
    """Return the places that the model chose for each day; raise UpstreamError if one is not in the catalogue."""
    try:
        chosen = orjson.loads(text)["days"]
        slugs = [[str(slug) for slug in day] for day in chosen]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UpstreamError("the answer is not an itinerary") from error
    flat = [slug for day in slugs for slug in day]
    if len(slugs) != days or not flat or len(set(flat)) != len(flat) or not by_slug.keys() >= set(flat):
        raise UpstreamError("the itinerary does not fit the catalogue or the days")
    return [[by_slug[slug] for slug in day] for day in slugs]


def _listing(places: Sequence[Place]) -> str:
    return "\n".join(f"{place['slug']}: {place['name']}, {place['regency']}; {place['category']}" for place in places)


def _brief(places: Sequence[Place]) -> list[dict[str, Any]]:
    return [{name: place[name] for name in ("slug", "name", "regency", "category")} for place in places]


def _describe(places: Sequence[Place]) -> str:
    """Return the offline concierge's text about the places that a message has found."""
    if not places:
        return "I know no place on Bali that matches. Try a kind of place, a region, or what you would like to do."
    best, *others = places
    answer = f"{best['name']} in {best['regency']}: {best['description']}"
    if others:
        answer += f" You may also like {', '.join(place['name'] for place in others)}."
    return answer
