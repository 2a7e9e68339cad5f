"""Short chaos runs. `make chaos` makes one last a quarter of an hour, and CI three of a minute with different seeds."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.chaos.__main__ import FAILED, NOT_RUN, main
from loadtest.chaos.actions import ACTIONS

SECONDS = "10"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes of a run are found in Linux's /proc")


def test_a_short_run_loses_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--seconds", SECONDS, "--seed", "1", "--results", str(tmp_path)])
    assert status == 0, capfd.readouterr()
    (directory,) = tmp_path.iterdir()
    summary = json.loads((directory / "summary.json").read_text())
    assert (summary["seed"], summary["verdict"], summary["violations"]) == (1, "passed", [])
    assert summary["actions"], "no action was taken"
    assert summary["requests"]["acknowledged_writes"] > 0
    assert (directory / "chart.svg").read_text().startswith("<svg ")


def test_a_failure_that_no_action_allows_fails_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIONS, "stop_postgres", replace(ACTIONS["stop_postgres"], allows=frozenset()))
    status = main(["--seconds", "10", "--seed", "4", "--only", "stop_postgres", "--results", str(tmp_path)])
    assert status == FAILED
    assert "seed 4, action 1 stop_postgres: requests fail only where allowed: " in capfd.readouterr().err
    (directory,) = tmp_path.iterdir()
    summary = json.loads((directory / "summary.json").read_text())
    assert (summary["verdict"], summary["actions"][0]["allowed"]) == ("failed", [])
    assert summary["actions"][0]["failures"]["503"] > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--only", "explode"], "--only 'explode' is no action: want one of reload, "),
        (["--seconds", "1"], "--seconds 1: want 5 to 86400"),
        (["--rate", "0"], "--rate 0: want 1 to 10000"),
        (["--seed", "-1"], "--seed -1: want 0 to "),
    ],
    ids=["action", "seconds", "rate", "seed"],
)
def test_a_wrong_argument_is_refused(wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=str(NOT_RUN)):
        main(wrong)
    assert message in capsys.readouterr().err
