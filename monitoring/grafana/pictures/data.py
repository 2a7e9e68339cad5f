"""Results of the queries of a dashboard, from the HTTP API of a Prometheus."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One series: its name in the legend, and its values (seconds since the start, value), without those not finite."""

    name: str
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        """The most recent value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Mark:
    """The time of an annotation, from `start` to `end` (seconds since the start), in the colour of that name."""

    start: float
    end: float
    colour: str


@dataclass(frozen=True)
class Source:
    """A Prometheus at `url`, asked for `start` to `end` (Unix time) in `steps` steps."""

    url: str
    start: float
    end: float
    rate_interval: str
    steps: int = 90

    def lines(self, board: Json, panel: Json) -> list[Line]:
        """Return the series of a panel's queries. Raise httpx.HTTPStatusError for a query that Prometheus refuses."""
        found = []
        for target in panel.get("targets", []):
            for one in self._series(self.substituted(target["expr"], board)):
                points = [(float(at) - self.start, float(text)) for at, text in one["values"]]
                points = [(at, value) for at, value in points if math.isfinite(value)]
                if target.get("instant") and not target.get("range"):
                    points = points[-1:]
                if points:
                    found.append(Line(_legend(target.get("legendFormat", ""), one["metric"]), points))
        return found

    def marks(self, board: Json) -> list[Mark]:
        """Return what the annotations of a dashboard mark, as long as each of their series is there without a gap."""
        found = set()
        for one in board["annotations"]["list"]:
            for series in self._series(self.substituted(one["expr"], board)) if "expr" in one else []:
                times = [float(at) - self.start for at, _ in series["values"]]
                breaks = [
                    number for number in range(1, len(times)) if times[number] - times[number - 1] > 1.5 * self.step
                ]
                for first, after in pairwise([0, *breaks, len(times)]):
                    found.add(Mark(times[first], times[after - 1], one["iconColor"]))
        return sorted(found, key=lambda mark: (mark.start, mark.end, mark.colour))

    @property
    def step(self) -> float:
        """Seconds between two values."""
        return max(1.0, (self.end - self.start) / self.steps)

    def substituted(self, expression: str, board: Json) -> str:
        """Return an expression with "All" in place of each variable, or the newest value where all is no choice."""
        chosen = {"__rate_interval": self.rate_interval}
        for item in board["templating"]["list"]:
            if item["type"] == "query":
                chosen[item["name"]] = item.get("allValue") or self._newest(item["query"])
        return re.sub(r"\$(\w+)", lambda found: chosen[found[1]], expression)

    def _newest(self, query: str) -> str:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        values = self._ask(f"label/{found[2]}/values", {"match[]": found[1]}) if found else []
        return str(max(values, default=""))

    def _series(self, query: str) -> list[Json]:
        given = {"query": query, "start": str(self.start), "end": str(self.end), "step": f"{self.step:g}"}
        return list(self._ask("query_range", given)["result"])

    def _ask(self, path: str, parameters: dict[str, str]) -> Any:
        # No proxy of the environment: the address is one of this machine or of the cluster.
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.get(f"{self.url}/api/v1/{path}", params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip()
