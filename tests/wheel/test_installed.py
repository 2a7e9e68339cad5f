"""The installed package: what it imports, its process of the metrics port, and its types for a user's program."""

import subprocess
import sys
from pathlib import Path

from tests.wheel.environment import PACKAGE, Environment, plain_environment

WEB = "{'fastapi', 'starlette', 'uvicorn', 'gunicorn'}"
PROGRAM = """
from fastapi import FastAPI
from prometheus_client import Counter

from prefork_observability import Observability, Options, OptionsError

observability: Observability = Observability("shop", version="1.0.0", namespace="shop")
orders: Counter = observability.counter("orders_total", "Orders.", ["state"])
orders.labels("paid").inc()
observability.histogram("size_bytes", "Sizes.", buckets=[1.0, 2.0]).observe(1.5)
observability.gauge("queue", "Jobs that wait.").set(3)
settings: dict[str, object] = observability.gunicorn("shop:app", workers=2)
app: FastAPI = observability.instrument(FastAPI())
options: Options = Observability.current().options
try:
    Observability(port=0)
except OptionsError as error:
    reveal_type(error)
"""
WRONG = {
    "observability.counter(1, 'A number.')": 'Argument 1 to "counter"',
    "Observability(prot=8100)": 'Unexpected keyword argument "prot"',
    "Observability(port='8100')": 'Argument "port" to "Observability" has incompatible type "str"',
    "Observability(tracing='lyer')": 'Argument "tracing" to "Observability" has incompatible type',
    "observability.instrument(app, excluded_handlers=1)": 'Argument "excluded_handlers" to "instrument"',
    "observability.add(1)": 'Argument 1 to "add"',
}


def test_the_package_comes_from_the_wheel_and_imports_neither_a_framework_nor_metrics(
    installed_wheel: Environment, tmp_path: Path
) -> None:
    script = f"import sys, {PACKAGE} as package; print(package.__file__); "
    script += f"print(sorted({{*{WEB}, 'prometheus_client'}} & set(sys.modules)))"
    done = installed_wheel.run("-c", script, cwd=tmp_path)
    file, imported = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed_wheel.packages), done.stderr
    assert imported == "[]"


def test_nothing_of_this_repository_is_importable(installed_wheel: Environment, tmp_path: Path) -> None:
    script = "import importlib.util as util; print([n for n in ('app', 'tests', 'loadtest') if util.find_spec(n)])"
    assert installed_wheel.run("-c", script, cwd=tmp_path).stdout == "[]\n"


def test_the_exporter_is_a_command_of_the_package(installed_wheel: Environment, tmp_path: Path) -> None:
    done = installed_wheel.run("-m", f"{PACKAGE}.exporter", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--port" in done.stdout
    assert done.stderr == ""


def test_the_exporter_loads_no_web_framework(installed_wheel: Environment, tmp_path: Path) -> None:
    script = f"import sys, {PACKAGE}.exporter; print(sorted({WEB} & set(sys.modules)))"
    done = installed_wheel.run("-c", script, cwd=tmp_path, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert done.stdout == "[]\n", done.stderr


def test_every_module_is_importable_with_the_extras(installed_wheel: Environment, tmp_path: Path) -> None:
    script = f"import importlib, pkgutil, {PACKAGE} as package; "
    script += "names = [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]; "
    script += "[importlib.import_module(name) for name in names if not name.endswith('__main__')]; print(len(names))"
    done = installed_wheel.run("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_every_signal_works_without_extras(wheel_without_extras: Environment, tmp_path: Path) -> None:
    script = "import importlib.util as util; print([n for n in ('gunicorn', 'uvicorn_worker') if util.find_spec(n)]); "
    script += f"from {PACKAGE} import Observability, exporter, health, logging, prometheus, tracing; "
    script += "from fastapi import FastAPI; Observability('shop').instrument(FastAPI()); print('done')"
    done = wheel_without_extras.run("-c", script, cwd=tmp_path)
    assert done.stdout == "[]\ndone\n", done.stderr


def test_each_library_of_an_extra_comes_with_it(installed_wheel: Environment, tmp_path: Path) -> None:
    names = ("asyncpg", "gunicorn", "httpx", "loguru", "redis", "sqlalchemy", "uvicorn_worker")
    script = f"import importlib.util as util; print([name for name in {names} if not util.find_spec(name)])"
    assert installed_wheel.run("-c", script, cwd=tmp_path).stdout == "[]\n"


def types_of(program: str, installed_wheel: Environment, directory: Path) -> str:
    """Return what a strict mypy says of `program` next to the installed package."""
    (directory / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed_wheel.python)]
    return subprocess.run(
        [*command, "--cache-dir", str(directory / "cache"), "program.py"],
        cwd=directory,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_a_typed_program_of_a_user_passes_a_strict_check(installed_wheel: Environment, tmp_path: Path) -> None:
    said = types_of(PROGRAM, installed_wheel, tmp_path)
    assert 'Revealed type is "prefork_observability.options.OptionsError"' in said
    assert "Success: no issues found" in said, said


def test_each_wrong_line_of_a_typed_program_is_found(installed_wheel: Environment, tmp_path: Path) -> None:
    said = types_of(PROGRAM + "\n".join(WRONG), installed_wheel, tmp_path)
    errors = [line.partition(" error: ")[2] for line in said.splitlines() if " error: " in line]
    assert len(errors) == len(WRONG), said
    assert [error for error, wanted in zip(errors, WRONG.values(), strict=True) if not error.startswith(wanted)] == []
