"""The lifecycle benchmark: its arithmetic, and the smallest run. Nothing here looks at a time."""

import json
import subprocess
import sys
from pathlib import Path

from app.settings import ROOT
from loadtest.benchmarks import lifecycle
from loadtest.benchmarks.command import Figures
from loadtest.benchmarks.lifecycle_app import OURS, STOCK
from loadtest.keep_alive import Results

SMALLEST = """
import sys
from pathlib import Path
from loadtest.benchmarks import command, lifecycle, lifecycle_served
command.RESULTS = Path(sys.argv[1])
lifecycle.AMOUNTS = {command.Depth.QUICK: lifecycle.Amounts(0.5, 1, 2, 1)}
lifecycle.AROUND_SECONDS, lifecycle.RATE, lifecycle.MAX_REQUESTS = 0.5, 100.0, 30
lifecycle.WORKERS = lifecycle_served.WORKERS = 2
sys.exit(lifecycle.main(command.Depth.QUICK))
"""


def seen() -> lifecycle.Seen:
    """Return two rounds with four answers, a reset, a status, and a connection that was refused."""
    first = Results([0.001, 0.002], {200: 2}, ["ConnectionResetError(104, 'x')"], longest_gap=0.5)
    second = Results([0.003, 0.010], {200: 1, 503: 1}, ["ConnectionRefusedError(111, 'x')"], longest_gap=0.2)
    return lifecycle.Seen([first, second], replaced=8, seconds=2.5)


def case(name: str, kind: str, failed: int = 0, ratio: float | None = 1.0) -> Figures:
    found = lifecycle.summarised(name, kind, seen())
    return {**found, "failed": failed, "failures": {"reset": failed} if failed else {}, "p99_over_steady": ratio}


def test_failures_are_counted_by_kind() -> None:
    found = lifecycle.summarised(lifecycle.RELOAD, OURS, seen(), steady_p99_ms=2.0)
    assert found["failures"] == {"refused": 1, "reset": 1, "status 503": 1}
    assert (found["requests"], found["failed"], found["refused_after_the_end"]) == (6, 3, 0)
    assert (found["p50_ms"], found["longest_ms"], found["gap_ms"]) == (2.0, 10.0, 500.0)
    assert found["p99_over_steady"] == found["p99_ms"] / 2.0


def test_a_connection_refused_after_the_end_is_no_failed_request() -> None:
    found = lifecycle.summarised(lifecycle.STOP, OURS, seen())
    assert found["failures"] == {"reset": 1, "status 503": 1}
    assert (found["requests"], found["failed"], found["refused_after_the_end"]) == (5, 2, 1)
    assert found["p99_over_steady"] is None


def test_an_unknown_failure_keeps_its_name() -> None:
    unknown = lifecycle.Seen([Results([0.1], {200: 1}, ["LimitOverrunError('x')"])])
    assert lifecycle.summarised(lifecycle.RELOAD, STOCK, unknown)["failures"] == {"LimitOverrunError": 1}


def test_only_our_figures_are_judged() -> None:
    found = lifecycle.budgets(
        [
            case(lifecycle.STEADY, OURS),
            case(lifecycle.RELOAD, OURS, ratio=5.0),
            case(lifecycle.RELOAD, STOCK, failed=9, ratio=99.0),
            case(lifecycle.RECYCLE, OURS, failed=1, ratio=5.1),
            case(lifecycle.STOP, OURS, ratio=9.0),
        ]
    )
    assert [(one["budget"].partition(":")[0], one["found"], one["met"]) for one in found] == [
        ("reload", 0, True),
        ("reload", 5.0, True),
        ("recycle", 1, False),
        ("recycle", 5.1, False),
        ("stop", 0, True),
    ]


def test_the_smallest_run_answers_each_request_of_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SMALLEST, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "lifecycle.json").read_text())
    measured = {(one["case"], one["kind"]): one for one in found["cases"]}
    assert list(measured) == [(name, kind) for name in lifecycle.CASES for kind in lifecycle.KINDS]
    assert all(one["requests"] > 0 for one in measured.values())
    assert [one["failures"] for (_, kind), one in measured.items() if kind == OURS] == [{}] * len(lifecycle.CASES)
    assert [measured[lifecycle.RELOAD, kind]["replaced"] for kind in lifecycle.KINDS] == [2, 2]
    assert all(measured[lifecycle.RECYCLE, kind]["replaced"] >= 2 for kind in lifecycle.KINDS)
    assert "recycle: failed requests" in done.stdout
