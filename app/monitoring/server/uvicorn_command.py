"""The command of a process manager, as far as its workers need it: `uvicorn --workers N --host ...`, `fastapi run`.

Uvicorn's command takes each option from a variable too: UVICORN_WORKERS, UVICORN_HOST and so on.
"""

import itertools
import os
from dataclasses import replace

from ..doctor import Situation
from ..options import Options
from . import manager

# What the command takes for "no" in a variable.
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def configured_workers() -> int:
    """Return the number of workers of the process manager's command; 0 if it does not say."""
    otherwise = "1" if manager.pid() == os.getpid() else "0"
    number = _given("--workers") or os.environ.get("WEB_CONCURRENCY") or otherwise
    return int(number) if number.isdecimal() else 0


def rewrites_peers() -> bool:
    """Return whether the command evaluates X-Forwarded-* before the application: without `--no-proxy-headers`.

    A program that calls `uvicorn.run` has no such command; it returns False.
    """
    words = manager.command()
    flags = [word for word in words if word in {"--proxy-headers", "--no-proxy-headers"}]
    if flags:
        return flags[-1] == "--proxy-headers"  # the last one holds
    if any(map(_is_uvicorn, words)):
        return manager.environment().get("UVICORN_PROXY_HEADERS", "").strip().lower() not in _FALSE
    return any(map(_is_fastapi, words))


def situation(options: Options) -> Situation:
    """Return the situation of a worker: the command first, then the options."""
    rewritten = rewrites_peers()
    # Read by Uvicorn's own middleware only.
    trusted = _given("--forwarded-allow-ips") if rewritten else None
    host, port, socket = _given("--host") or options.host, _given("--port") or options.port, _given("--uds")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return replace(
        Situation.of_options(options, [f"unix:{socket}" if socket else address]),
        workers=configured_workers() or options.workers,
        forwarded_allow_ips=trusted or options.forwarded_allow_ips,
        peers_rewritten=rewritten,
        graceful_timeout=None,  # Uvicorn has --timeout-graceful-shutdown
    )


def _given(option: str) -> str | None:
    """Return the value of an option as the process manager has it: from its command, else from UVICORN_<OPTION>."""
    words = manager.command()
    given = itertools.chain.from_iterable(word.split("=", 1) for word in words)
    found = dict(itertools.pairwise(given)).get(option)  # the last one holds
    if found is None and any(map(_is_uvicorn, words)):
        found = manager.environment().get("UVICORN_" + option.removeprefix("--").replace("-", "_").upper()) or None
    return found


def _is_uvicorn(word: str) -> bool:
    """Return whether a word of a command names Uvicorn's own program; `fastapi run` does not read its variables."""
    return word == "uvicorn" or word.endswith(("/uvicorn", "/uvicorn/__main__.py"))


def _is_fastapi(word: str) -> bool:
    """Return whether a word of a command names FastAPI's own program."""
    return word == "fastapi" or word.endswith(("/fastapi", "/fastapi/__main__.py", "/fastapi_cli/__main__.py"))
