"""An alert that is broken on purpose fails its promtool tests."""

import os
from pathlib import Path
from zlib import crc32

import pytest

from tests.alerts.mutants import mutants, survivors
from tests.alerts.rules import alerts

# A third of the changes, the same ones in each run; ALL_MUTANTS=1 judges all of them.
SHARE = 1 if os.environ.get("ALL_MUTANTS") else 3
# Changes that no test can notice, because nothing that can be observed changes.
EQUIVALENT: dict[str, set[str]] = {}


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_that_is_broken_on_purpose_fails_its_tests(tmp_path: Path, alert: str) -> None:
    rule = alerts()[alert]
    assert survivors(tmp_path, alert, [("nothing", rule)]) == ["nothing"], "fails without a change"
    chosen = [one for one in mutants(rule) if crc32(f"{alert} {one[0]}".encode()) % SHARE == 0]
    left = set(survivors(tmp_path / "changed", alert, chosen)) if chosen else set()
    assert left <= EQUIVALENT.get(alert, set())
