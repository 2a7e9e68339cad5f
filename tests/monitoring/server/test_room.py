"""The search for a connection that makes room for a new one. In this process."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.monitoring.server.connections import Connected, Wire, connected

CONNECTIONS, MAX_LOOKS = 4, 100
HALF_A_HEAD = b"GET / HT"


class Watched(socket.socket):
    """A socket that counts how often it is looked at. It fails instead of letting a search run for ever."""

    looks = 0

    def fileno(self) -> int:
        self.looks += 1
        assert self.looks < MAX_LOOKS, "the search does not end"
        return super().fileno()


@contextmanager
def unread(one: Connected) -> Iterator[list[Watched]]:
    """Have connections whose clients have sent a part of a head, and more that is not read yet."""
    one.state.connections.discard(one.protocol)
    with ExitStack() as stack:
        sockets = []
        for _ in range(CONNECTIONS):
            client, connection = socket.socketpair()
            stack.enter_context(client)
            sockets.append(stack.enter_context(Watched(fileno=connection.detach())))
            one.connect(Wire(sockets[-1])).data_received(HALF_A_HEAD)
            client.send(b"TP")
        yield sockets


async def test_a_search_ends_if_all_that_wait_have_sent_more() -> None:
    async with connected() as one:
        with unread(one) as sockets:
            assert not any(one.state.room.evict(None) for _ in range(10))
            assert [watched.looks for watched in sockets] == [1] * CONNECTIONS


async def test_a_search_without_a_find_is_repeated_in_the_next_second() -> None:
    async with connected() as one:
        with unread(one) as sockets:
            assert not one.state.room.evict(None)
            for watched in sockets:
                watched.recv(2)
            assert not one.state.room.evict(None)
            one.state.clock += 1
            assert [one.state.room.evict(None) for _ in range(2)] == [True] * 2
