"""Facts of the catalogue's data."""

import datetime as dt
from collections import Counter
from typing import Any

import orjson
import pytest

from app.assistant.planner import DAY_ENDS, DAY_STARTS, Wishes, plan
from app.database.migrate import COLUMNS, SEED

CATALOGUE: list[dict[str, Any]] = orjson.loads(SEED.read_bytes())
each_place = pytest.mark.parametrize("place", CATALOGUE, ids=lambda place: place["slug"])
REGENCIES = {
    "Badung",
    "Bangli",
    "Buleleng",
    "Denpasar",
    "Gianyar",
    "Jembrana",
    "Karangasem",
    "Klungkung",
    "Tabanan",
}


def test_there_are_sixty_places_or_more_and_none_twice() -> None:
    assert len(CATALOGUE) >= 60
    for name in ("slug", "name", "description"):
        assert [value for value, count in Counter(place[name] for place in CATALOGUE).items() if count > 1] == []


def test_all_nine_regencies_have_places() -> None:
    counts = Counter(place["regency"] for place in CATALOGUE)
    assert counts.keys() == REGENCIES
    assert min(counts.values()) >= 3


@each_place
def test_a_place_has_every_column(place: dict[str, Any]) -> None:
    assert sorted(place) == sorted(COLUMNS)
    assert all(place[name] == place[name].strip() != "" for name in ("name", "category", "description"))


@each_place
def test_a_slug_has_the_form_of_the_route(place: dict[str, Any]) -> None:
    assert set(place["slug"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 1 <= len(place["slug"]) <= 80


@each_place
def test_a_place_lies_on_bali_or_its_islands(place: dict[str, Any]) -> None:
    assert -8.92 <= place["latitude"] <= -8.05
    assert 114.42 <= place["longitude"] <= 115.72


@each_place
def test_opening_hours_are_both_there_or_neither_and_hold_a_visit(place: dict[str, Any]) -> None:
    if place["opens"] is None:
        assert place["closes"] is None
        return
    opens, closes = (dt.datetime.strptime(place[name], "%H:%M").replace(tzinfo=dt.UTC) for name in ("opens", "closes"))
    assert opens + dt.timedelta(minutes=place["visit_minutes"]) <= closes


@each_place
def test_a_visit_fits_into_a_day_of_the_planner(place: dict[str, Any]) -> None:
    assert 15 <= place["visit_minutes"] <= DAY_ENDS - DAY_STARTS
    (day,) = plan([{**place, "rating_average": None}], Wishes(1))["days"]
    assert [stop["slug"] for stop in day["stops"]] == [place["slug"]]


@each_place
def test_months_are_months_in_order(place: dict[str, Any]) -> None:
    assert place["best_months"]
    assert place["best_months"] == sorted(set(place["best_months"]))
    assert set(place["best_months"]) <= set(range(1, 13))


@each_place
def test_a_fee_is_none_or_a_sum_in_rupiah(place: dict[str, Any]) -> None:
    fee = place["entrance_fee_idr"]
    assert fee is None or (isinstance(fee, int) and 1_000 <= fee <= 1_000_000)


@each_place
def test_tags_and_category_are_single_lower_case_words(place: dict[str, Any]) -> None:
    words = [place["category"], *place["tags"]]
    assert place["tags"]
    assert len(set(place["tags"])) == len(place["tags"])
    assert all(word == word.lower() and word.replace("-", "").isalpha() and len(word) <= 40 for word in words)


def test_every_month_has_places_that_are_at_their_best() -> None:
    counts = Counter(month for place in CATALOGUE for month in place["best_months"])
    assert all(counts[month] >= 3 for month in range(1, 13))
