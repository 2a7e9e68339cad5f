"""The offline planner's promises, on any catalogue."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.assistant import planner
from app.assistant.planner import DAY_ENDS, DAY_STARTS, MAX_STOPS, Day, Place, Wishes, plan, schedule

TAGS = ("temple", "beach", "surf", "view")


def clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def minutes(clock: str) -> int:
    hours, rest = clock.split(":")
    return int(hours) * 60 + int(rest)


def make_place(slug: str, **changes: Any) -> Place:
    """Return a place in the middle of Bali that is always open and free."""
    return {
        "slug": slug,
        "name": slug.title(),
        "category": "temple",
        "latitude": -8.5,
        "longitude": 115.2,
        "entrance_fee_idr": None,
        "opens": None,
        "closes": None,
        "visit_minutes": 60,
        "best_months": [],
        "tags": [],
        "rating_average": None,
        **changes,
    }


@st.composite
def places(draw: st.DrawFn) -> Place:
    opens, closes = sorted(draw(st.lists(st.integers(0, 24 * 60 - 1), min_size=2, max_size=2)))
    hours = {"opens": clock(opens), "closes": clock(closes)} if draw(st.booleans()) else {}
    return make_place(
        f"place-{draw(st.integers(0, 10**6))}",
        latitude=draw(st.floats(-8.9, -8.0)),
        longitude=draw(st.floats(114.4, 115.75)),
        entrance_fee_idr=draw(st.none() | st.integers(0, 300_000)),
        visit_minutes=draw(st.integers(1, 600)),
        best_months=draw(st.lists(st.integers(1, 12), unique=True)),
        tags=draw(st.lists(st.sampled_from(TAGS), unique=True)),
        rating_average=draw(st.none() | st.floats(1, 5)),
        **hours,
    )


CATALOGUES = st.lists(places(), max_size=15, unique_by=lambda place: place["slug"])
WISHES = st.builds(
    Wishes,
    days=st.integers(1, 4),
    interests=st.lists(st.sampled_from(TAGS), unique=True).map(tuple),
    budget=st.none() | st.integers(0, 500_000),
    month=st.none() | st.integers(1, 12),
)


def stops_of(itinerary: dict[str, Any]) -> list[dict[str, Any]]:
    return [stop for day in itinerary["days"] for stop in day["stops"]]


def slugs_of(itinerary: dict[str, Any]) -> list[list[str]]:
    return [[stop["slug"] for stop in day["stops"]] for day in itinerary["days"]]


def assert_possible(itinerary: dict[str, Any], catalogue: Sequence[Place]) -> None:
    """Assert that every day is feasible: in order, inside the day and opening hours, with time for the road."""
    by_slug = {place["slug"]: place for place in catalogue}
    for day in itinerary["days"]:
        here, free = None, DAY_STARTS
        for stop in day["stops"]:
            place = by_slug[stop["slug"]]
            road = planner.travel_minutes(here, place) if here else 0
            assert stop["travel_minutes"] == road
            arrive, leave = minutes(stop["arrive"]), minutes(stop["leave"])
            assert arrive >= free + road
            assert leave == arrive + place["visit_minutes"] <= DAY_ENDS
            if place["opens"]:
                assert minutes(place["opens"]) <= arrive
                assert leave <= minutes(place["closes"])
            here, free = place, leave


@given(catalogue=CATALOGUES, wishes=WISHES)
def test_every_day_of_a_plan_can_be_lived(catalogue: list[Place], wishes: Wishes) -> None:
    itinerary = plan(catalogue, wishes)
    assert [day["day"] for day in itinerary["days"]] == list(range(1, wishes.days + 1))
    assert all(len(day["stops"]) <= MAX_STOPS for day in itinerary["days"])
    assert_possible(itinerary, catalogue)


@given(catalogue=CATALOGUES, wishes=WISHES)
def test_no_place_comes_up_twice(catalogue: list[Place], wishes: Wishes) -> None:
    found = [stop["slug"] for stop in stops_of(plan(catalogue, wishes))]
    assert len(set(found)) == len(found)


@given(catalogue=CATALOGUES, wishes=WISHES)
def test_the_fees_are_summed_and_stay_within_the_budget(catalogue: list[Place], wishes: Wishes) -> None:
    itinerary = plan(catalogue, wishes)
    fees = sum(stop["entrance_fee_idr"] or 0 for stop in stops_of(itinerary))
    assert itinerary["total_fee_idr"] == fees
    assert wishes.budget is None or fees <= wishes.budget


@given(catalogue=CATALOGUES, wishes=WISHES)
def test_the_same_wishes_get_the_same_plan(catalogue: list[Place], wishes: Wishes) -> None:
    assert plan(catalogue, wishes) == plan(catalogue, wishes)


@given(chosen=st.lists(CATALOGUES, max_size=3))
def test_every_day_of_a_schedule_can_be_lived(chosen: list[list[Place]]) -> None:
    for number, places in enumerate(chosen):
        for place in places:
            place["slug"] += f"-{number}"
    itinerary = schedule(chosen)
    assert_possible(itinerary, [place for places in chosen for place in places])
    for slugs, places in zip(slugs_of(itinerary), chosen, strict=True):
        kept = iter(place["slug"] for place in places)
        assert all(slug in kept for slug in slugs), "the order changed"


def test_a_schedule_leaves_out_what_does_not_fit_and_goes_on() -> None:
    long, evening = make_place("long", visit_minutes=601), make_place("evening", opens="18:00", closes="23:00")
    chosen = [[make_place("first"), long, evening, make_place("last")]]
    assert slugs_of(schedule(chosen)) == [["first", "last"]]


def test_interests_decide_what_comes_first() -> None:
    catalogue = [make_place("a-market", category="market"), make_place("surf", tags=["surf"], category="beach")]
    assert slugs_of(plan(catalogue, Wishes(1, ("surf",)))) == [["surf", "a-market"]]
    assert slugs_of(plan(catalogue, Wishes(1, ("market",)))) == [["a-market", "surf"]]


def test_the_season_decides_between_equals() -> None:
    catalogue = [make_place("dry", best_months=[7]), make_place("wet", best_months=[1])]
    assert slugs_of(plan(catalogue, Wishes(1, month=1))) == [["wet", "dry"]]
    assert slugs_of(plan(catalogue, Wishes(1, month=7))) == [["dry", "wet"]]


def test_what_others_thought_decides_between_equals() -> None:
    catalogue = [make_place("unrated"), make_place("loved", rating_average=5.0), make_place("bad", rating_average=1.0)]
    assert slugs_of(plan(catalogue, Wishes(1))) == [["loved", "unrated", "bad"]]


def test_a_near_place_comes_before_a_far_one() -> None:
    catalogue = [make_place("a"), make_place("b-far", latitude=-8.1), make_place("near", latitude=-8.49)]
    assert slugs_of(plan(catalogue, Wishes(1)))[0][:2] == ["a", "near"]


def test_a_place_that_the_budget_does_not_reach_is_left_out() -> None:
    catalogue = [make_place("dear", entrance_fee_idr=100_001), make_place("cheap", entrance_fee_idr=100_000)]
    assert slugs_of(plan(catalogue, Wishes(1, budget=100_000))) == [["cheap"]]


def test_days_that_nothing_is_left_for_are_empty() -> None:
    assert slugs_of(plan([make_place("only")], Wishes(3))) == [["only"], [], []]
    assert plan([], Wishes(1)) == {"days": [{"day": 1, "stops": []}], "total_fee_idr": 0, "total_km": 0.0}


def test_a_visit_waits_for_the_gate_to_open() -> None:
    (stop,) = stops_of(plan([make_place("late", opens="10:00", closes="12:00")], Wishes(1)))
    assert (stop["arrive"], stop["leave"]) == ("10:00", "11:00")


def test_a_visit_that_does_not_fit_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="late does not fit into the day"):
        planner._visit(Day(clock=DAY_ENDS), make_place("late"))


def test_a_degree_of_latitude_is_111_kilometres() -> None:
    one, other = make_place("one", latitude=-8.0), make_place("other", latitude=-9.0)
    assert planner.distance(one, other) == pytest.approx(111.19, abs=0.01)
    assert planner.distance(one, one) == 0


def test_the_crossing_to_the_nusa_islands_takes_a_boat() -> None:
    sanur = make_place("sanur", latitude=-8.6785, longitude=115.2641)
    lembongan = make_place("lembongan", latitude=-8.6663, longitude=115.4669)
    penida = make_place("penida", latitude=-8.7511, longitude=115.4737)
    padang_bai = make_place("padang-bai", latitude=-8.5297, longitude=115.5133)
    assert planner.travel_minutes(sanur, lembongan) > planner.BOAT_MINUTES
    assert planner.travel_minutes(lembongan, penida) < planner.BOAT_MINUTES
    assert planner.travel_minutes(sanur, padang_bai) < planner.BOAT_MINUTES * 2
    assert planner.travel_minutes(lembongan, sanur) == planner.travel_minutes(sanur, lembongan)


def test_the_kilometres_are_those_of_the_roads_between_stops() -> None:
    far = make_place("far", latitude=-8.4)
    itinerary = schedule([[make_place("here"), far], [far]])
    assert itinerary["total_km"] == round(planner.distance(make_place("here"), far) * planner.ROAD_FACTOR, 1)
