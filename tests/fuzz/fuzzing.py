"""Requests that Schemathesis makes from the OpenAPI document of a service, and what it finds in the responses."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.engine import Status, events, from_schema

from tests.fuzz import hooks  # noqa: F401 -- for its effect

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
# So high that reads and writes are exercised, and not the limits.
UNLIMITED = "1000000/second"
LIMITS = {"RATE_LIMIT_WRITES": UNLIMITED, "RATE_LIMIT_AI": UNLIMITED, "RATE_LIMIT_KEYS": UNLIMITED}


@dataclass
class Outcome:
    """The number of responses by operation and status, and a text for each finding."""

    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """The number of requests."""
        return self.responses.total()

    def add(self, other: "Outcome") -> None:
        """Add the results of another run."""
        self.responses.update(other.responses)
        self.findings += other.findings


def _configuration(seed: int, examples: int, key: str) -> schemathesis.Config:
    content = tomllib.loads(CONFIGURATION.read_text())
    content |= {"seed": seed, "headers": {"X-API-Key": key}}
    content["generation"] = {**content["generation"], "max-examples": examples}
    return schemathesis.Config.from_dict(content)


def fuzz(url: str, *, seed: int, examples: int, key: str) -> Outcome:
    """Test the service at `url` with up to `examples` random requests an operation, and those that cover its document.

    `key` is its ADMIN_API_KEY. The same seed makes the same requests, except for what depends on responses.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_configuration(seed, examples, key))
    outcome = Outcome()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            outcome.responses.update(_responses(event.recorder))
            outcome.findings += _findings(event.recorder)
        elif isinstance(event, events.NonFatalError):
            outcome.findings.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return outcome


def _responses(recorder: Any) -> Iterator[tuple[str, int]]:
    for name, interaction in recorder.interactions.items():
        if interaction.response is not None:
            yield recorder.cases[name].value.operation.label, interaction.response.status_code


def _findings(recorder: Any) -> Iterator[str]:
    for checks in recorder.checks.values():
        for check in checks:
            if check.status is Status.SUCCESS:
                continue
            found = check.failure_info
            yield f"{recorder.label}: {check.name}" + (f"\n{found.failure}\n{found.code_sample}" if found else "")
