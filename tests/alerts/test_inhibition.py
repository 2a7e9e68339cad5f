"""A real Alertmanager: one outage is one notification, and what is not its effect is notified too."""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pytest

from loadtest.inhibition import matches
from tests.alerts.alertmanager import Told, play, shipped
from tests.alerts.outages import (
    EQUAL,
    INDEPENDENT,
    INHIBITED,
    JOB,
    SERVICE,
    SEVERITIES,
    STORIES,
    USUAL,
    Labels,
    Pair,
    alert,
    pairs,
)
from tests.alerts.programs import refuse
from tests.alerts.rules import MONITORING, alerts, load, slo

Rule = dict[str, Any]
RULES: list[Rule] = load(MONITORING / "alertmanager.yml")["inhibit_rules"]
PAIRS = pairs()
APART = [Pair(cause, effect) for cause, effects in INDEPENDENT.items() for effect in effects.split()]
# The alerts that inhibit with the labels of DependencyDown and OptionalDependencyDown.
NAMES = [*SEVERITIES, *(one for one in INHIBITED if "dependency=" in one)]


@dataclass(frozen=True)
class Broken:
    """A rule of inhibition that is missing, or does not compare `label` any more."""

    index: int
    label: str = ""

    @property
    def name(self) -> str:
        """Its name, which its alerts carry."""
        return f"rule-{self.index}-{self.label or 'missing'}"

    def rules(self) -> Iterator[Rule]:
        """Return the rules, for the alerts that carry the name only."""
        for index, rule in enumerate(RULES):
            if index == self.index and not self.label:
                continue
            if index != self.index and self.label:
                continue
            own = [f'broken="{self.name}"']
            yield {
                "source_matchers": own + rule["source_matchers"],
                "target_matchers": own + rule["target_matchers"],
                "equal": [label for label in rule["equal"] if label != self.label],
            }

    def pairs(self) -> list[Pair]:
        """Return the pairs that this rule is for."""
        rule = RULES[self.index]
        return [
            one
            for one in PAIRS
            if one.apart == self.label
            and matches(rule["source_matchers"], alert(one.cause))
            and matches(rule["target_matchers"], alert(one.effect))
        ]


BROKEN = [Broken(index, label) for index, rule in enumerate(RULES) for label in ("", *rule["equal"])]


def program() -> str:
    """Return the path of Alertmanager. Without one, skip the test, or fail it in CI."""
    return (
        shutil.which("alertmanager") or shutil.which("prometheus-alertmanager") or refuse("alertmanager is not on PATH")
    )


Steps = list[list[tuple[Labels, bool]]]


def steps_of_stories() -> Steps:
    """Return the steps of all stories, each in a service of its own, beside each other."""
    each = [
        [
            [({**alert(one.lstrip("-")), "service": name}, not one.startswith("-")) for one in step]
            for step in story.steps
        ]
        for name, story in STORIES.items()
    ]
    return [[one for step in steps for one in step] for steps in zip_longest(*each, fillvalue=())]


def steps_of_pairs(all_pairs: list[Pair], **more: str) -> Steps:
    """Return two steps: the causes, and what they inhibit."""
    labels = [one.labels(service_of(one, **more)) for one in all_pairs]
    return [[({**both[index], **more}, True) for both in labels] for index in (0, 1)]


def service_of(pair: Pair, **more: str) -> str:
    """Return the service of a pair."""
    return " ".join([pair.cause, "over", pair.effect, pair.apart, *more.values()])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """Notifications by service: in every story, and of every pair, by the shipped rules and by broken ones."""
    command, directory = program(), tmp_path_factory.mktemp("alertmanager")

    def together(*steps: Steps) -> Steps:
        return [[one for step in each for one in step] for each in zip_longest(*steps, fillvalue=())]

    async def played() -> tuple[dict[str, Told], dict[str, Told]]:
        own = together(steps_of_stories(), steps_of_pairs(PAIRS + APART))
        others = together(*(steps_of_pairs(one.pairs(), broken=one.name) for one in BROKEN))
        return await asyncio.gather(
            play(directory / "shipped", command, RULES, own),
            play(directory / "broken", command, [rule for one in BROKEN for rule in one.rules()], others),
        )

    for name in ("shipped", "broken"):
        (directory / name).mkdir()
    found, of_broken = asyncio.run(played())
    return of_broken | found


def effect_told(told: Mapping[str, Told], pair: Pair, **more: str) -> bool:
    """Return True if the effect of a pair was notified."""
    _, effect = pair.labels(service_of(pair, **more))
    seen = told.get(effect["service"], Told())
    return effect["alertname"] in seen.pages + seen.tickets


@pytest.mark.parametrize("name", STORIES)
def test_an_outage_is_notified_once(told: dict[str, Told], name: str) -> None:
    seen = told.get(name, Told())
    assert (seen.pages, seen.tickets) == (Counter(STORIES[name].pages), Counter(STORIES[name].tickets))
    assert len(seen.groups) == seen.pages.total() + seen.tickets.total(), "a message that belongs to an open incident"


@pytest.mark.parametrize("cause", INHIBITED)
def test_a_cause_silences_its_effects_where_the_labels_are_equal(told: dict[str, Told], cause: str) -> None:
    mine = [one for one in PAIRS if one.cause == cause]
    assert {one: effect_told(told, one) for one in mine} == {one: bool(one.apart) for one in mine}


@pytest.mark.parametrize("cause", INDEPENDENT)
def test_what_is_no_effect_is_notified(told: dict[str, Told], cause: str) -> None:
    assert [one.effect for one in APART if one.cause == cause and not effect_told(told, one)] == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.name)
def test_a_rule_that_is_missing_or_compares_a_label_less_is_noticed(told: dict[str, Told], broken: Broken) -> None:
    noticed = [one for one in broken.pairs() if effect_told(told, one, broken=broken.name) != bool(one.apart)]
    assert noticed, f"no pair of tests/alerts/outages.py needs {RULES[broken.index]}"


def test_only_durations_and_addresses_differ_from_what_ships() -> None:
    def plain(route: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            key: value for key, value in route.items() if key not in {"group_wait", "group_interval", "repeat_interval"}
        }
        return {**own, "routes": [plain(child) for child in route.get("routes", [])]}

    own, original = shipped("http://127.0.0.1:1"), load(MONITORING / "alertmanager.yml")
    assert plain(own.pop("route")) == plain(original.pop("route"))
    assert own.pop("receivers") != original.pop("receivers")
    assert own == original


def test_no_alert_is_inhibited_by_one_that_it_inhibits() -> None:
    """Neither would be notified. Longer circles count as well."""
    edges = {
        text: {
            other
            for other in NAMES
            for rule in RULES
            if matches(rule["source_matchers"], alert(text)) and matches(rule["target_matchers"], alert(other))
        }
        for text in NAMES
    }

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        new = edges[start]
        while new - seen:
            seen |= new
            new = {after for one in new for after in edges[one]}
        return seen

    assert any(edges.values())
    assert [text for text in NAMES if text in reached(text)] == []


def test_each_rule_has_a_comment() -> None:
    text = (MONITORING / "alertmanager.yml").read_text()
    before = re.findall(r"^(.*)\n  - source_matchers:", text, re.MULTILINE)
    assert len(before) == len(RULES)
    assert [line for line in before if not line.startswith("  # ")] == []


def test_each_dependency_that_pages_inhibits_its_effects() -> None:
    paging = {name for name, severity in slo().get("dependencies", {}).items() if severity == "critical"}
    named = {alert(one).get("dependency") for one in INHIBITED if one.startswith("DependencyDown")}
    assert paging <= named


def test_severities_are_those_of_the_rules() -> None:
    assert {name: rule["labels"]["severity"] for name, rule in alerts().items() if name in SEVERITIES} == {
        name: severity for name, severity in SEVERITIES.items() if name in alerts()
    }


def test_each_alert_of_an_outage_is_one_of_the_rules() -> None:
    unknown = SEVERITIES.keys() - alerts().keys()
    assert not unknown or "DependencyDown" not in alerts(), unknown


def test_pairs_cover_every_label_that_a_rule_compares() -> None:
    assert {label for rule in RULES for label in rule["equal"]} == {
        *USUAL,
        *(one for own in EQUAL.values() for one in own),
    }
    assert all(one.pairs() for one in BROKEN)
    assert (slo()["service"], slo()["service"]) == (SERVICE, JOB)
