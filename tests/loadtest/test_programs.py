"""Ports for servers that are about to start."""

import socket
from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import pytest

from loadtest import programs
from loadtest.programs import free_port


def choose(monkeypatch: pytest.MonkeyPatch, ports: Iterable[int]) -> list[Sequence[int]]:
    """Have `ports` tried in this order as if none had been returned; return the ranges that they are chosen from."""
    order, ranges = iter(ports), []

    def choice(candidates: Sequence[int]) -> int:
        ranges.append(candidates)
        return next(order)

    monkeypatch.setattr(programs, "_returned_ports", set())
    monkeypatch.setattr(programs, "secrets", SimpleNamespace(choice=choice))
    return ranges


def test_a_port_is_returned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_port(), free_port()
    choose(monkeypatch, [first, first, second])
    assert [free_port(), free_port()] == [first, second]


def test_a_port_that_is_in_use_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    used, free = free_port(), free_port()
    choose(monkeypatch, [used, free])
    with socket.create_server(("127.0.0.1", used)):
        assert free_port() == free


def test_the_processes_of_a_parallel_run_have_disjoint_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [free_port() for _ in range(3)]
    ranges = choose(monkeypatch, ports)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    for process in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{process}")
        free_port()
    assert len(set().union(*ranges)) == sum(map(len, ranges)) == 32_768 - 10_000
