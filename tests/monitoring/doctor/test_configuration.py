"""The configuration that the command examines: gunicorn's file, else the environment."""

import pytest

from tests.monitoring.doctor.conftest import INSTRUMENTED, PLAIN, Examine, Project

DEFAULT = "gunicorn_conf.py"
CONFIGURATION = """
from app.monitoring import Observability

globals().update(Observability("shop", namespace="shop"{options}).gunicorn("shop:app"{settings}))
"""


def configured(project: Project, options: str = "", settings: str = "", name: str = DEFAULT) -> None:
    project.write("shop.py", INSTRUMENTED)
    project.write(name, CONFIGURATION.format(options=options, settings=settings))


def codes(lines: list[str]) -> list[str]:
    return [line.split(": ")[0].split()[1] for line in lines]


def test_without_a_file_the_environment_is_examined(project: Project, examine: Examine) -> None:
    project.write("shop.py", PLAIN)
    outcome = examine()
    assert (outcome.configuration, outcome.lines) == ("environment", ["0 findings"])


def test_an_application_of_the_configuration_that_is_not_instrumented_is_found(
    project: Project, examine: Examine
) -> None:
    configured(project)
    project.write("shop.py", PLAIN)
    assert "Observability.current().instrument(app)" in examine().only("not-instrumented")


OTHER = f"""{PLAIN}
from starlette.middleware.gzip import GZipMiddleware
from app.monitoring import Observability

other = Observability.current().instrument(FastAPI())
"""


@pytest.mark.parametrize(
    ("served", "found"),
    [
        ("", ["not-instrumented"]),
        ("app = GZipMiddleware(app)\n", ["not-instrumented"]),
        ("app = GZipMiddleware(other)\n", []),
        ("app.mount('/other', other)\n", []),
        # The application inside a function cannot be found.
        ("async def app(scope, receive, send): await other(scope, receive, send)\n", []),
    ],
    ids=["other", "other-inside", "inside", "mounted", "function"],
)
def test_the_application_that_is_served_has_to_be_the_instrumented_one(
    project: Project, examine: Examine, served: str, found: list[str]
) -> None:
    configured(project)
    project.write("shop.py", OTHER + served)
    lines = examine().lines
    assert (codes(lines) if lines != ["0 findings"] else []) == found


@pytest.mark.parametrize(
    ("options", "settings", "found"),
    [
        (", host='0.0.0.0'", "", ["untrusted-proxies"]),
        ("", ", bind=['127.0.0.1:8000', '0.0.0.0:8001']", ["untrusted-proxies"]),
        (", host='0.0.0.0', forwarded_allow_ips='10.0.0.7'", "", []),
        (", sample_ratio=1.0, tracing_disabled=False", "", ["tracing-without-endpoint"]),
        (", tracing='none', otlp_endpoint='http://collector:4317'", "", ["tracing-disabled"]),
        (", metrics_directory='/proc/metrics'", "", ["directory-not-writable"]),
    ],
)
def test_arguments_in_gunicorns_configuration_are_examined(
    project: Project, examine: Examine, options: str, settings: str, found: list[str]
) -> None:
    configured(project, options, settings)
    outcome = examine()
    assert outcome.configuration == DEFAULT, outcome.errors
    assert codes([line for line in outcome.lines if line != "0 findings"]) == found


def test_the_configuration_comes_before_the_environment_and_the_command_line_before_the_file(
    project: Project, examine: Examine
) -> None:
    configured(project, ", host='0.0.0.0'")
    assert examine(HOST="127.0.0.1").only("untrusted-proxies")
    arguments = {"GUNICORN_CMD_ARGS": "--forwarded-allow-ips=10.0.0.7"}
    assert examine(**arguments).lines == ["0 findings"]


def test_another_file_can_be_named(project: Project) -> None:
    configured(project)
    configured(project, ", host='0.0.0.0'", name="conf/open.py")
    outcome = project.run("doctor", "shop:app", "--config", "conf/open.py")
    outcome.only("untrusted-proxies")
    assert outcome.configuration == "conf/open.py"


def test_hooks_do_not_run_and_the_directory_of_the_service_stays_as_it_is(project: Project, examine: Examine) -> None:
    own = project.path / "own"
    configured(project, f", metrics_directory={str(own)!r}", ", on_starting=lambda server: open('started', 'w')")
    project.write(
        "shop.py", INSTRUMENTED + "from prometheus_client import Counter\nCounter('orders', 'Orders.').inc()\n"
    )
    for variables in ({}, {"PROMETHEUS_MULTIPROC_DIR": str(own)}):
        outcome = examine(**variables)
        assert outcome.lines == ["0 findings"], outcome.errors
    assert not own.exists()
    assert not (project.path / "started").exists()


def test_a_metric_that_is_made_before_the_configuration_is_found(project: Project, examine: Examine) -> None:
    configured(project)
    early = "from prometheus_client import Counter\nCounter('orders', 'Orders.')\n"
    project.write(DEFAULT, early + CONFIGURATION.format(options="", settings=""))
    examine().only("single-process-metric")


def test_a_file_without_the_package_is_named_and_the_environment_is_examined(
    project: Project, examine: Examine
) -> None:
    project.write("shop.py", PLAIN)
    project.write("gunicorn.conf.py", "workers = 2\n")
    outcome = examine(HOST="0.0.0.0")  # noqa: S104
    outcome.only("untrusted-proxies")
    assert outcome.configuration == "environment (gunicorn.conf.py does not call Observability.gunicorn())"


def test_without_gunicorn_the_environment_is_examined(project: Project, examine: Examine) -> None:
    configured(project, ", host='0.0.0.0'")
    project.write("gunicorn/__init__.py", "raise ImportError('gunicorn')\n")
    outcome = examine()
    assert (outcome.configuration, outcome.lines) == ("environment (gunicorn is not installed)", ["0 findings"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CONFIGURATION.format(options=", port=0", settings=""), "port=0: want a number from 1 to 65535"),
        (CONFIGURATION.format(options="", settings="") + "worker_class = 'sync'\n", "worker_class="),
        (CONFIGURATION.format(options="", settings="").replace("globals().update", "dict"), "error unused-settings: "),
        ("1 / 0\n", "gunicorn has written the reason"),
        ("workers = 'two'\n", "gunicorn has written the reason"),
    ],
)
def test_a_configuration_that_gunicorn_refuses_is_one_line_more_and_status_2(
    project: Project, examine: Examine, text: str, reason: str
) -> None:
    project.write("shop.py", PLAIN)
    project.write(DEFAULT, text)
    outcome = examine()
    assert (outcome.status, outcome.lines) == (2, [])
    last = outcome.errors.splitlines()[-1]
    assert last.startswith(DEFAULT)
    assert reason in last


def test_a_file_that_does_not_exist_is_status_2(project: Project, examine: Examine) -> None:
    project.write("shop.py", PLAIN)
    outcome = examine(configuration="nowhere.py")
    assert outcome.status == 2
    assert "nowhere.py" in outcome.errors
