"""Findings about the application: others that count or expose, and paths that are taken."""

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from app.monitoring.doctor.applications import shadowed_paths
from tests.monitoring.doctor.conftest import PLAIN, Doctor

INSTRUMENTED = """
from prometheus_fastapi_instrumentator import Instrumentator
"""
ROUTE = """
async def own():
    return "mine"
"""


def test_a_second_instrumentator_is_found(doctor: Doctor) -> None:
    outcome = doctor(f"{PLAIN}{INSTRUMENTED}Instrumentator().instrument(app)\n")
    assert "the application at / " in outcome.only("second-instrumentator")
    assert outcome.status == 1


def test_a_second_instrumentator_of_a_mounted_application_is_found(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}{INSTRUMENTED}inner = FastAPI()\napp.mount('/inner', inner)\nInstrumentator().instrument(inner)\n"
    )
    assert "the application at /inner " in outcome.only("second-instrumentator")


def test_an_application_in_asgi_middlewares_is_examined(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}{INSTRUMENTED}Instrumentator().instrument(app)\n"
        "from starlette.middleware.gzip import GZipMiddleware\napp = GZipMiddleware(app)\n"
    )
    outcome.only("second-instrumentator")


def test_a_multiprocess_collector_is_found(doctor: Doctor) -> None:
    line = doctor(
        PLAIN
        + """
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
OURS = CollectorRegistry()
MultiProcessCollector(OURS)
"""
    ).only("multiprocess-collector")
    assert "shop.OURS" in line


def test_a_multiprocess_collector_in_the_default_registry_is_found(doctor: Doctor) -> None:
    outcome = doctor(
        PLAIN
        + """
from prometheus_client import REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector
MultiProcessCollector(REGISTRY)
"""
    )
    assert "the default registry" in outcome.only("multiprocess-collector")


@pytest.mark.parametrize(
    "exposed",
    [
        "from prometheus_client import make_asgi_app\napp.mount('/metrics', make_asgi_app())",
        "from prometheus_client import generate_latest\n@app.get('/metrics')\ndef mine(): return generate_latest()",
        (
            "from fastapi import APIRouter\nimport prometheus_client\nrouter = APIRouter(prefix='/metrics')\n"
            "@router.get('')\ndef mine():\n    def inner():\n        return prometheus_client.generate_latest()\n"
            "    return inner()\napp.include_router(router)"
        ),
    ],
    ids=["mounted", "own", "included"],
)
def test_an_exposition_of_others_is_found(doctor: Doctor, exposed: str) -> None:
    outcome = doctor(f"{PLAIN}{exposed}\n")
    assert "/metrics is an exposition" in outcome.only("foreign-exposition")
    assert outcome.status == 1


def test_an_old_route_with_a_multiprocess_collector_is_found_and_ends_no_start(doctor: Doctor) -> None:
    outcome = doctor(f"{PLAIN}{INSTRUMENTED}Instrumentator().expose(app)\n")
    line = outcome.only("multiprocess-collector")
    assert line.startswith("warning multiprocess-collector: /metrics is an exposition")
    assert outcome.status == 0


def test_an_exposition_in_a_helper_is_found(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}import prometheus_client\nfrom fastapi import Response\n"
        "def text(): return prometheus_client.generate_latest()\n"
        "def page(): return Response(text())\n"
        "app.add_api_route('/of', page)\n"
    )
    assert "/of is an exposition by shop.page" in outcome.only("foreign-exposition")


@pytest.mark.parametrize(
    "added",
    [
        "app.add_api_route('/metrics', own)",
        "app.add_route('/metrics', own)",
        "app.add_api_route('/{rest:path}', own)",
        "app.mount('/', FastAPI())",
        "from fastapi import APIRouter\nr = APIRouter()\nr.add_api_route('/metrics', own)\napp.include_router(r)",
    ],
    ids=["api", "plain", "catch-all", "mounted", "included"],
)
def test_a_route_that_takes_a_path_of_the_package_is_found(doctor: Doctor, added: str) -> None:
    line = doctor(f"{PLAIN}{ROUTE}{added}\n").only("shadowed-path")
    assert line.startswith("warning shadowed-path: /metrics ")


def test_a_catch_all_behind_the_route_of_the_package_is_none(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}{ROUTE}"
        "from app.monitoring.prometheus import Instrumentator\nInstrumentator().expose_to(app, ())\n"
        "app.mount('/', FastAPI())\n"
    )
    assert outcome.lines == ["0 findings"]


def test_a_route_behind_that_of_the_package_is_found(doctor: Doctor) -> None:
    outcome = doctor(
        f"{PLAIN}{ROUTE}"
        "from app.monitoring.prometheus import Instrumentator\nInstrumentator().expose_to(app, ())\n"
        "app.add_api_route('/metrics', own)\n"
    )
    assert "shop.own" in outcome.only("shadowed-path")


async def own(_: Request) -> Response:
    return Response()


def test_each_path_that_the_package_will_serve_is_looked_at() -> None:
    app = FastAPI()
    app.add_route("/health", own)
    assert list(shadowed_paths(app, ("/metrics",))) == []
    (finding,) = shadowed_paths(app, ("/metrics", "/health"))
    assert finding.code == "shadowed-path"
    assert finding.what.startswith("/health ")


def test_other_routes_are_none(doctor: Doctor) -> None:
    outcome = doctor(f"{PLAIN}{ROUTE}app.add_api_route('/metrics/of/mine', own)\napp.mount('/inner', FastAPI())\n")
    assert outcome.lines == ["0 findings"]
