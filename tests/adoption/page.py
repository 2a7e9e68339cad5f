"""The listings of docs/adopting.md as a test runs them: with ports and directories of its own."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.settings import ROOT
from tests.listings import blocks

PAGE = (ROOT / "docs" / "adopting.md").read_text()
START, ASK, ALONE, GENERATE, LOAD, WATCH = blocks("adopting.md", "sh")
(INSTALL,) = (found for found in re.findall(r"^```\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "pip" in found)


def written(form: str) -> str:
    """Return the one inline command of the page that has this form."""
    (found,) = set(re.findall(rf"`({form})`", PAGE.replace("\n", " ")))
    return str(found)


def listing(file: str, language: str = "python") -> str:
    """Return the one listing that begins with the name of `file`."""
    (found,) = (one for one in blocks("adopting.md", language) if one.startswith(f"# {file}\n"))
    return found


def adapted(commands: str, *, port: int, metrics_port: int, metrics: Path, prometheus_port: int = 9091) -> str:
    """Return `commands` with other ports and another metrics directory."""
    own: dict[str, object] = {"8000": port, "9090": metrics_port, "9091": prometheus_port}
    own["/dev/shm/shop-metrics"] = metrics  # noqa: S108 -- as the page has it
    return re.sub(r"\b(?:8000|909[01])\b|/dev/shm/shop-metrics", lambda found: str(own[found[0]]), commands)


def as_script(commands: str, background: Path) -> list[str]:
    """Return the command of a shell that its last line replaces; `background` gets the id of what `&` has started."""
    *before, last = commands.strip().splitlines()
    return ["/bin/sh", "-euc", "\n".join([*before, f"echo ${{!:-}} > {background}", f"exec {last}"])]


def in_the_clone(commands: str, directory: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `commands` where this repository is the clone and `directory` the shop's."""
    environment = {**variables, "OUTPUT": str(directory), "SHOP": str(directory)}
    script = commands.replace(".venv/bin/python", sys.executable)
    return subprocess.run(
        ["/bin/sh", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
