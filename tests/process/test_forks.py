"""Forks of a process whose children are isolated: what children share with it, and what they do not."""

import subprocess
import sys
from pathlib import Path

import pytest

SET_UP = """
import asyncio, multiprocessing, os, select, signal, socket, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor
import tests.coverage_forks
from app.monitoring.server.handover import Queue
from app.monitoring.server.forked import isolate_children
import uvloop

fork = multiprocessing.get_context("fork")
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
served, _ = listener.accept()
pair, pipe, queue = socket.socketpair(), fork.Pipe(), Queue()
passed = socket.create_connection(listener.getsockname())
passed.set_inheritable(True)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGUSR1, lambda *_: None)
isolate_children([listener], [queue])

def in_child(function):
    "Return what `function` returns in a forked child."
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(function()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as result:
        text = result.read().decode()
    os.waitpid(pid, 0)
    return text

def kind(stream):
    try:
        return os.readlink(f"/proc/self/fd/{stream.fileno()}").partition(":")[0]
    except (OSError, ValueError):
        return "closed"
"""


def run(program: str) -> list[str]:
    """Return the lines that a program prints."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SET_UP + program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("listener", "/dev/null"),
        ("client", "/dev/null"),
        ("served", "/dev/null"),
        ("queue", "closed"),
        ("socket.socket()", "/dev/null"),
        ("socket.socket(socket.AF_UNIX)", "/dev/null"),
        ("pair[0]", "socket"),
        ("pipe[0]", "socket"),
        ("passed", "socket"),
        ("socket.socket(type=socket.SOCK_DGRAM)", "socket"),
        ("open('/etc/hostname')", "/etc/hostname"),
    ],
)
def test_streams_are_replaced_and_everything_else_stays(made: str, expected: str) -> None:
    assert run(f"""
made = {made}
before = kind(made)
print(in_child(lambda: kind(made)))
print(kind(made) == before)
""") == [expected, "True"]


def test_the_loop_of_a_child_does_not_unregister_descriptors_of_its_parent() -> None:
    assert run("""
loop = select.epoll()
loop.register(listener, select.EPOLLIN)
in_child(lambda: loop.unregister(listener))
again = socket.create_connection(listener.getsockname())
print(len(loop.poll(30)))
""") == ["1"]


def test_a_default_timeout_does_not_change_what_is_shared() -> None:
    assert run("""
socket.setdefaulttimeout(5)
print(in_child(lambda: (os.get_blocking(pair[0].fileno()), socket.getdefaulttimeout())))
print(os.get_blocking(pair[0].fileno()))
""") == ["(True, 5.0)", "True"]


def test_signals_have_their_default_action_also_in_a_child_of_a_thread_that_blocks_them() -> None:
    assert run("""
def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    print(in_child(lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
    print(in_child(lambda: [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]))
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for programs in the background
thread = threading.Thread(target=blocked)
thread.start()
thread.join()
print(callable(signal.getsignal(signal.SIGTERM)))
""") == [
        "[<Signals.SIGALRM: 14>]",
        "[<Handlers.SIG_DFL: 0>, <Handlers.SIG_DFL: 0>, <Handlers.SIG_DFL: 0>]",
        "[<Signals.SIGALRM: 14>, <Signals.SIGTERM: 15>]",
        "True",
    ]


def test_a_signal_that_a_child_gets_at_once_does_not_reach_its_parent() -> None:
    assert run("""
woken, wake_up = socket.socketpair()
wake_up.setblocking(False)
signal.set_wakeup_fd(wake_up.fileno())
for _ in range(200):
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
woken.setblocking(False)
try:
    print(woken.recv(1))
except BlockingIOError:
    print("not woken")
""") == ["not woken"]


def test_children_of_children_are_left_alone() -> None:
    assert run("""
def grandchild():
    own = socket.create_server(("127.0.0.1", 0))
    signal.signal(signal.SIGTERM, lambda *_: None)
    return in_child(lambda: (kind(own), callable(signal.getsignal(signal.SIGTERM))))

print(in_child(grandchild))
""") == ["('socket', True)"]


@pytest.mark.parametrize("how", ["preexec_fn", "uvloop", "asyncio", "plain"])
def test_a_program_gets_the_sockets_that_it_is_given(how: str) -> None:
    assert run(f"""
async def start():
    program = await asyncio.create_subprocess_exec("echo", "told", stdout=served)
    await program.wait()

if {how!r} == "uvloop":
    uvloop.run(start())
elif {how!r} == "asyncio":
    asyncio.run(start())
else:
    subprocess.run(["echo", "told"], stdout=served, preexec_fn={how!r} == "preexec_fn" and os.getpid or None)
print(client.recv(10))
""") == ["b'told\\n'"]


def test_pools_and_pipes_of_multiprocessing_work() -> None:
    assert run("""
def double(number):
    return 2 * number

def answer(end):
    end.send(end.recv() + 1)

with ProcessPoolExecutor(2, mp_context=fork) as pool:
    print(list(pool.map(double, range(5))))
child = fork.Process(target=answer, args=[pipe[1]])
child.start()
pipe[0].send(41)
print(pipe[0].recv())
child.join()
print(child.exitcode)
""") == ["[0, 2, 4, 6, 8]", "42", "0"]


def test_a_child_is_isolated_when_no_descriptor_is_left() -> None:
    assert run("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reading, writing = os.pipe()
def fill():
    opened = []
    try:
        while True:
            opened.append(os.dup(0))
    except OSError:
        return opened
opened = fill()
pid = os.fork()
if pid == 0:
    os.write(writing, kind(listener).encode())
    os._exit(0)
os.waitpid(pid, 0)
print(os.read(reading, 100))
""") == ["b'/dev/null'"]
