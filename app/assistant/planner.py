"""The offline planner: sensible days out of the catalogue, by interests, distance, opening hours, season and fees.

Pure functions on catalogue rows (see app.database.destinations); nothing here waits for anything.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Place = dict[str, Any]

DAY_STARTS, DAY_ENDS = 8 * 60 + 30, 18 * 60 + 30  # minutes after midnight
MAX_STOPS = 4
ROAD_FACTOR = 1.4  # Bali's roads wind: road kilometres over straight ones
KM_PER_MINUTE = 0.5
BOAT_MINUTES = 90  # the crossing to or from the Nusa islands, with the wait
NUSA_WEST, NUSA_NORTH = 115.42, -8.65
EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True)
class Wishes:
    """A traveller's wishes. `budget` is for entrance fees of one person, in IDR; month from 1 to 12."""

    days: int
    interests: tuple[str, ...] = ()
    budget: int | None = None
    month: int | None = None


@dataclass
class Day:
    """The stops of one day, and where and when the last one ended."""

    stops: list[dict[str, Any]] = field(default_factory=list)
    clock: int = DAY_STARTS
    here: Place | None = None
    kilometres: float = 0.0


def plan(catalogue: Sequence[Place], wishes: Wishes) -> dict[str, Any]:
    """Return an itinerary of `wishes.days` days: stops with times, the fees of one person, the road kilometres.

    A place comes up once. Days at the end are empty where the catalogue or the budget has run out.
    """
    remaining = {place["slug"]: place for place in catalogue}
    scores = {place["slug"]: _score(place, wishes) for place in catalogue}
    budget = math.inf if wishes.budget is None else wishes.budget
    days = []
    for _ in range(wishes.days):
        day = Day()
        while len(day.stops) < MAX_STOPS:
            place = _next(remaining.values(), day, scores, budget)
            if place is None:
                break
            _visit(day, place)
            budget -= _fee(place)
            del remaining[place["slug"]]
        days.append(day)
    return _itinerary(days)


def schedule(chosen: Sequence[Sequence[Place]]) -> dict[str, Any]:
    """Schedule the places that were chosen for each day; leave out what does not fit into a day."""
    days = []
    for places in chosen:
        day = Day()
        for place in places:
            if _arrival(day, place) is not None:
                _visit(day, place)
        days.append(day)
    return _itinerary(days)


def distance(one: Place, other: Place) -> float:
    """Return the kilometres between two places in a straight line (haversine)."""
    lat1, lat2 = math.radians(one["latitude"]), math.radians(other["latitude"])
    lon = math.radians(other["longitude"] - one["longitude"])
    chord = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(lon / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(chord))


def travel_minutes(one: Place, other: Place) -> int:
    """Return the minutes on the road between two places, with the boat if one is on the Nusa islands."""
    boat = BOAT_MINUTES if _on_nusa(one) != _on_nusa(other) else 0
    return round(distance(one, other) * ROAD_FACTOR / KM_PER_MINUTE) + boat


def _on_nusa(place: Place) -> bool:
    return bool(place["longitude"] > NUSA_WEST and place["latitude"] < NUSA_NORTH)


def _fee(place: Place) -> int:
    return place["entrance_fee_idr"] or 0


def _score(place: Place, wishes: Wishes) -> float:
    """Rate how well a place fits: interests first, then the season, then the ratings."""
    words = {*place["tags"], place["category"]}
    interests = sum(interest in words for interest in wishes.interests)
    season = 0.0 if wishes.month is None else (1.0 if wishes.month in place["best_months"] else -1.0)
    return 3.0 * interests + season + (place["rating_average"] or 3.0) / 5


def _next(places: Iterable[Place], day: Day, scores: dict[str, float], budget: float) -> Place | None:
    """Return the best place that still fits into the day: an hour on the road outweighs half an interest."""
    best, best_value = None, -math.inf
    for place in places:
        if _fee(place) > budget or _arrival(day, place) is None:
            continue
        travel = travel_minutes(day.here, place) if day.here else 0
        value = scores[place["slug"]] - travel / 40
        if value > best_value:
            best, best_value = place, value
    return best


def _arrival(day: Day, place: Place) -> int | None:
    """Return the start of the visit in minutes after midnight; None if it would not end in time."""
    arrival = day.clock + (travel_minutes(day.here, place) if day.here else 0)
    closes = DAY_ENDS
    if place["opens"]:
        arrival = max(arrival, _minutes(place["opens"]))
        closes = min(closes, _minutes(place["closes"]))
    return arrival if arrival + place["visit_minutes"] <= closes else None


def _visit(day: Day, place: Place) -> None:
    arrival = _arrival(day, place)
    if arrival is None:
        raise ValueError(f"{place['slug']} does not fit into the day")
    leave = arrival + place["visit_minutes"]
    day.stops.append(
        {
            "slug": place["slug"],
            "name": place["name"],
            "arrive": _clock(arrival),
            "leave": _clock(leave),
            "travel_minutes": travel_minutes(day.here, place) if day.here else 0,
            "entrance_fee_idr": place["entrance_fee_idr"],
        }
    )
    if day.here:
        day.kilometres += distance(day.here, place) * ROAD_FACTOR
    day.here, day.clock = place, leave


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _itinerary(days: Sequence[Day]) -> dict[str, Any]:
    return {
        "days": [{"day": number, "stops": day.stops} for number, day in enumerate(days, 1)],
        "total_fee_idr": sum(stop["entrance_fee_idr"] or 0 for day in days for stop in day.stops),
        "total_km": round(sum(day.kilometres for day in days), 1),
    }
