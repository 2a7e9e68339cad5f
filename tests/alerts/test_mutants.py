"""An alert passes its promtool tests, and fails them when it is broken on purpose."""

import os
from pathlib import Path
from zlib import crc32

import pytest

from tests.alerts.mutants import mutants, survivors
from tests.alerts.rules import alerts

# One change of 24, the same ones in each run; ALL_MUTANTS=1 judges all of them.
SHARE = 1 if os.environ.get("ALL_MUTANTS") else 24
# Changes that no test can notice, because nothing that can be observed changes.
UNCHANGED = "unchanged"
EQUIVALENT: dict[str, set[str]] = {
    "TargetDown": {f"[1d] becomes {other}s" for other in (43200, 172800)},  # incidents/deployments.yml notices both
    "RecentOutage": {"max at 0 is another"},  # ALERTS is always 1
    # One series an instance: the aggregation only takes labels away.
    "AlertmanagerReloadFailed": {"min at 0 is another"},
    "MetricsDirectoryNearlyFull": {f"min at {place} is another" for place in (0, 80, 153)},
    # A number of restarts is whole: 2 is over both.
    "ContainerRestarting": {
        *(f"max at {place} is another" for place in (4, 137, 220, 317)),
        *(f"> 1.5 becomes {other}" for other in (1.275, 1.725)),
    },
    "CollectorFailing": {"max at 232 is another", "max at 297 is another"},
    "DatabasePoolExhausted": {"min at 87 is another"},
    "DiskNearlyFull": {"max at 0 is another", "max at 62 is another"},
    "MemoryNearLimit": {"max at 0 is another", "max at 64 is another"},
    # A number of workers, or of Alertmanagers, that is whole: over 0.85 is at least 1.
    "NotEnoughWorkers": {"max at 0 is another", "max at 67 is another", ">= 1 becomes 0.85"},
    "NotificationsFailing": {"max at 85 is another", "< 1 becomes 0.85"},
    "PrometheusReloadFailed": {"min at 0 is another"},
    # increase() reads two ends as up to 2.1 and three as at least 3.
    "WorkerCrashLoop": {"> 2.5 becomes 2.125", "> 2.5 becomes 2.875"},
}


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_passes_its_tests_and_fails_them_when_it_is_broken_on_purpose(tmp_path: Path, alert: str) -> None:
    rule = alerts()[alert]
    chosen = [one for one in mutants(rule) if crc32(f"{alert} {one[0]}".encode()) % SHARE == 0]
    left = survivors(tmp_path, alert, [(UNCHANGED, rule), *chosen])
    assert set(left) - EQUIVALENT.get(alert, set()) == {UNCHANGED}
