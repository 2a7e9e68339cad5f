"""Applications that checks cannot read: a warning, and the other checks go on."""

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.monitoring.doctor import Situation, examine, versions
from app.monitoring.doctor.examination import examine_surroundings
from tests.monitoring.doctor.conftest import PLAIN, Doctor


class Unready(CollectorRegistry):
    """A registry that does not call its base class."""

    def __init__(self) -> None:
        pass


class Odd(BaseRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raise LookupError(scope["path"])


def test_an_application_that_is_mounted_in_itself_is_examined_once() -> None:
    app = FastAPI()
    app.mount("/self", app)
    inner = FastAPI()
    app.mount("/inner", inner)
    inner.mount("/outer", app)
    assert examine(app, Situation()) == []


def test_a_registry_that_has_not_called_its_base_class_has_no_collectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "registry", Unready())
    assert examine(FastAPI(), Situation()) == []


def test_a_route_that_raises_is_a_warning_with_the_check_and_the_exception() -> None:
    app = FastAPI()
    app.router.routes.append(Odd())
    (finding,) = examine(app, Situation())
    assert (finding.code, finding.severity) == ("check-failed", "warning")
    assert finding.what.startswith("the check shadowed_paths ended with LookupError in ")
    assert finding.what.partition(":")[0].endswith("test_oddities.py")


def test_an_object_that_is_no_application_at_all_is_a_warning() -> None:
    class Closed:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    (finding,) = examine(Closed(), Situation())
    assert finding.what.startswith("the check unwrapped ended with RuntimeError in ")


def test_a_check_of_the_surroundings_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "requirements", lambda: ["no requirement at all"])
    (finding,) = examine_surroundings(Situation(tracing_disabled=True))
    assert finding.what.startswith("the check untested_versions ended with InvalidRequirement in ")


def test_the_command_prints_the_findings_beside_a_check_that_failed(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}from prometheus_client import Info\nBUILD = Info('build', 'B')\n"
        "from starlette.routing import BaseRoute\n"
        "app.router.routes.append(BaseRoute())\napp.mount('/self', app)\n"
    )
    assert outcome.status == 0
    assert [line.split(": ")[0] for line in outcome.lines] == ["warning lost-kind", "warning check-failed"]
