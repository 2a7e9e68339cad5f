"""An alert passes its promtool tests, and fails them when it is broken on purpose."""

import os
from pathlib import Path
from zlib import crc32

import pytest

from tests.alerts.mutants import mutants, survivors
from tests.alerts.rules import alerts

# One change of twelve, the same ones in each run; ALL_MUTANTS=1 judges all of them.
SHARE = 1 if os.environ.get("ALL_MUTANTS") else 12
# Changes that no test can notice, because nothing that can be observed changes.
UNCHANGED = "unchanged"
EQUIVALENT: dict[str, set[str]] = {
    "TargetDown": {f"[1d] becomes {other}s" for other in (43200, 172800)},  # incidents/deployments.yml notices both
    "RecentOutage": {"max at 0 is another"},  # ALERTS is always 1
}


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_passes_its_tests_and_fails_them_when_it_is_broken_on_purpose(tmp_path: Path, alert: str) -> None:
    rule = alerts()[alert]
    chosen = [one for one in mutants(rule) if crc32(f"{alert} {one[0]}".encode()) % SHARE == 0]
    left = survivors(tmp_path, alert, [(UNCHANGED, rule), *chosen])
    assert set(left) - EQUIVALENT.get(alert, set()) == {UNCHANGED}
