"""Ports for servers that are about to start."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtest import programs
from loadtest.programs import BLOCK, MAX_PORT, MIN_PORT, free_port
from tests.processes import started

MORE_THAN_A_BLOCK = BLOCK + 6
PRINT_PORTS = f"""
from loadtest.programs import free_port
print(*[free_port() for _ in range({MORE_THAN_A_BLOCK})], flush=True)
input()
"""


def test_a_port_is_returned_once() -> None:
    ports = [free_port() for _ in range(2 * BLOCK)]
    assert len(set(ports)) == 2 * BLOCK
    assert MIN_PORT <= min(ports) < max(ports) < MAX_PORT


def test_a_port_that_is_in_use_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    used, free = free_port(), free_port()
    monkeypatch.setattr(programs, "_ports", programs._Ports(left=iter([used, free])))
    with socket.create_server(("127.0.0.1", used)):
        assert free_port() == free


def test_processes_beside_each_other_have_disjoint_ports(tmp_path: Path) -> None:
    # They choose the same six blocks in the same order, and each needs two.
    blocks = [MIN_PORT + number * BLOCK for number in range(6)]
    program = f"import secrets; order = iter({blocks}); secrets.choice = lambda _: next(order)\n{PRINT_PORTS}"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                started(
                    [sys.executable, "-c", program],
                    env={**os.environ, "TMPDIR": str(tmp_path)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(2)
        ]
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
    one, other = ({int(port) for port in line.split()} for line in lines)
    assert len(one) == len(other) == MORE_THAN_A_BLOCK
    assert not one & other
