"""The command that makes rules for another service from the committed ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from monitoring.rules.__main__ import DIRECTORY, Names, render
from tests.alerts.programs import run


def generated(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitoring.rules", "--output", str(output), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_committed_names_give_the_committed_files() -> None:
    committed = {str(path.relative_to(DIRECTORY)): path.read_text() for path in DIRECTORY.rglob("*.yml")}
    assert render(Names()) == committed


def test_promtool_accepts_the_rules_of_another_service_and_their_tests_pass(tmp_path: Path) -> None:
    names = ["--namespace", "shop", "--job", "shop-api", "--runbooks", "https://example.org/runbooks"]
    done = generated(tmp_path, *names, "--without", "CircuitBreakerOpen")
    assert done.returncode == 0, done.stderr
    tests = sorted((tmp_path / "tests").glob("*.yml"))
    text = "".join(path.read_text() for path in (tmp_path / "shop.yml", *tests))
    assert "baliblissed" not in text
    assert "CircuitBreakerOpen" not in text
    assert 'up{job="shop-api"}' in text
    checked = run("promtool", "check", "rules", tmp_path / "shop.yml")
    assert checked.returncode == 0, checked.stdout
    tested = run("promtool", "test", "rules", *tests)
    assert tested.returncode == 0, tested.stdout


def test_an_unknown_alert_and_a_wrong_namespace_are_refused(tmp_path: Path) -> None:
    done = generated(tmp_path, "--namespace", "shop", "--job", "shop", "--without", "Nothing")
    assert done.returncode == 1
    assert "--without Nothing: want one of CircuitBreakerOpen, " in done.stderr
    done = generated(tmp_path, "--namespace", "my-shop", "--job", "shop")
    assert "'my-shop': want letters, digits and underscores" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_new_form_of_the_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="in a form that FORMS does not have"):
        Names("shop").apply("expr: baliblissed:requests:rate5m")
