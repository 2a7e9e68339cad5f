"""Uncaught exceptions, in separate processes."""

import json
import subprocess
import sys
from typing import Any

import pytest

CONFIGURE = """
import gc, os, sys, threading, asyncio
from app.monitoring.logging import configure
def start():
    configure(renderer="json", level="INFO", service="s", version="1", environment="test")
"""
SECRET = "wayan@example.com"


def run(code: str) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """Run `code`. Return its log lines and the completed process."""
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE + code], capture_output=True, text=True, timeout=60, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


RAISED = {
    "uncaught_exception": (f"start()\nraise ValueError('{SECRET}')", "critical", 1),
    "uncaught_thread_exception": (
        f"start()\ndef fail(): raise ValueError('{SECRET}')\nt = threading.Thread(target=fail)\nt.start()\nt.join()",
        "error",
        0,
    ),
    "unraisable_exception": (
        f"start()\nclass Broken:\n    def __del__(self): raise ValueError('{SECRET}')\nBroken()",
        "error",
        0,
    ),
}


@pytest.mark.parametrize("event", RAISED)
def test_an_uncaught_exception_is_one_redacted_line(event: str) -> None:
    code, level, status = RAISED[event]
    lines, done = run(code)
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [(event, level, "python")]
    assert "ValueError: [email]" in lines[0]["exception"]
    assert (done.returncode, done.stderr) == (status, "")


def test_a_forked_child_logs_its_uncaught_exception() -> None:
    code = (
        "start()\npid = os.fork()\nif not pid: raise ValueError('child')\nprint(os.waitpid(pid, 0)[1], file=sys.stderr)"
    )
    lines, done = run(code)
    assert [line["event"] for line in lines] == ["uncaught_exception"]
    assert done.stderr == "256\n"


def test_a_finaliser_that_fails_at_shutdown_is_logged() -> None:
    lines, done = run("start()\nclass Broken:\n    def __del__(self): raise ValueError('late')\nkept = Broken()")
    assert [(line["event"], line["source"]) for line in lines] == [("unraisable_exception", "Broken.__del__")]
    assert done.stderr == ""


def test_previous_hooks_are_called_too_and_a_second_set_up_adds_no_line() -> None:
    lines, done = run("""
def say(*args): print("previous", file=sys.stderr)
sys.excepthook = say
start()
ours = sys.excepthook
def wrap(*args):
    print("wrapper", file=sys.stderr)
    ours(*args)
sys.excepthook = wrap
start()
start()
raise ValueError("x")
""")
    assert [line["event"] for line in lines] == ["uncaught_exception"]
    assert done.stderr.splitlines() == ["wrapper", "previous"]


def test_a_previous_hook_that_fails_does_not_show() -> None:
    lines, done = run("def fail(*args): raise OSError\nsys.excepthook = fail\nstart()\nraise ValueError('x')")
    assert ([line["event"] for line in lines], done.stderr) == (["uncaught_exception"], "")


@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [("raise SystemExit(3)", 3, ""), ("raise KeyboardInterrupt", -2, "KeyboardInterrupt")],
)
def test_the_end_of_a_process_on_request_is_no_error(code: str, status: int, shown: str) -> None:
    lines, done = run(f"start()\n{code}")
    assert (lines, done.returncode) == ([], status)
    assert shown in done.stderr


def test_a_task_that_nobody_awaited_is_logged_by_asyncio() -> None:
    lines, _ = run(f"""
start()
async def fail(): raise ValueError("{SECRET}")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
asyncio.run(main())
""")
    (line,) = lines
    assert (line["logger"], line["level"]) == ("asyncio", "error")
    assert line["event"].startswith("Task exception was never retrieved")
    assert "ValueError: [email]" in line["exception"]
    assert SECRET not in json.dumps(line)
