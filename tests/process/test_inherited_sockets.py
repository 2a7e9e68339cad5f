"""gunicorn listens on sockets that it inherits: those of systemd, and of `bind=fd://N`."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.monitoring.server.inherited import InheritedSocketError, inherited_addresses
from tests.process.replacement import configured, reload, under_traffic, wait_for_workers
from tests.process.service import Service, gone, service, wait_for

# Passes a socket as systemd does. It listens on the port of the setting `bind`, as that of a unit usually does.
SYSTEMD = """
import os, socket, sys
listener = socket.create_server((os.environ.get("UNIT_HOST", "127.0.0.1"), int(os.environ["PORT"])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
if os.environ.get("UNIT_VARIABLES") != "none":
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[1], sys.argv[1:])
"""
LAUNCHER = (sys.executable, "-c", SYSTEMD)


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path, None, configured(tmp_path), "http", LAUNCHER) as running:
        wait_for_workers(running)
        yield running


def test_reloads_on_a_socket_of_systemd_fail_no_request(activated: Service) -> None:
    results = under_traffic(activated, *[lambda: reload(activated)] * 2)
    assert (results.failed, results.closed) == ([], 0)
    assert activated.total("http_requests_total", handler="/pid") == results.statuses[200]
    assert activated.stop() == 0
    assert "Traceback" not in activated.output


def test_a_worker_on_a_socket_of_systemd_is_replaced(activated: Service) -> None:
    (first, _) = activated.workers()
    first.kill()
    wait_for(lambda: gone([first]) and len(activated.workers()) == 2, "its successor")
    wait_for(lambda: activated.output.count("Application startup complete.") == 3, "its start")
    assert activated.answers("/health/ready")


def test_the_examination_is_of_the_inherited_socket(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path), "http", LAUNCHER, UNIT_HOST="0.0.0.0") as running:  # noqa: S104
        assert running.output.count('"code":"untrusted-proxies"') == 1
        assert f"listens on 0.0.0.0:{running.port} " in running.output
        assert running.stop() == 0


def test_a_descriptor_can_be_bound(tmp_path: Path) -> None:
    configuration = configured(tmp_path, '{"bind": "fd://3"}')
    with service(tmp_path, None, configuration, "http", LAUNCHER, UNIT_VARIABLES="none") as running:
        wait_for_workers(running)
        reload(running)
        assert running.answers("/health/ready")
        assert running.stop() == 0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def test_addresses_have_the_form_of_gunicorns_setting(listener: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as local, socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        local.bind(str(path))
        local.listen()
        bound = [("127.0.0.1", 8000), listener.fileno(), local.fileno(), other.fileno()]
        port, port6 = listener.getsockname()[1], other.getsockname()[1]
        assert inherited_addresses(bound) == [f"127.0.0.1:{port}", f"unix:{path}", f"[::1]:{port6}"]
    assert inherited_addresses([("127.0.0.1", 8000), "/run/shop.sock"]) == []


def test_sockets_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "2")
    assert inherited_addresses([]) == []


@pytest.mark.parametrize("kind", ["connected", "datagram", "file", "closed"])
def test_a_descriptor_that_is_no_listener_is_refused(kind: str, tmp_path: Path) -> None:
    first, second = socket.socketpair()
    with first, second, socket.socket(type=socket.SOCK_DGRAM) as datagram, (tmp_path / "file").open("w") as file:
        number = {"connected": first.fileno(), "datagram": datagram.fileno(), "file": file.fileno(), "closed": 99_999}
        with pytest.raises(InheritedSocketError) as raised:
            inherited_addresses([number[kind]])
    assert str(raised.value) == (
        f"bind=fd://{number[kind]}: want a listening stream socket as descriptor {number[kind]}"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("two", "LISTEN_FDS='two': want the number of sockets that systemd passes"),
        ("99999", "LISTEN_FDS=99999: want a listening stream socket as descriptor "),
    ],
)
def test_a_wrong_variable_of_systemd_is_named(monkeypatch: pytest.MonkeyPatch, given: str, message: str) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", given)
    with pytest.raises(InheritedSocketError) as raised:
        inherited_addresses([])
    assert str(raised.value).startswith(message)
