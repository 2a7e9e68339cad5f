"""The actions of a run. Each takes something away and gives it back; what it allows to fail is declared beside it."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from loadtest.chaos.ledger import CLOSED, REFUSED
from loadtest.chaos.world import CLOCK, DATABASE_DISK, METRICS_DISK, World

Leaving = list[psutil.Process]
"""Processes that have to end before the run goes on."""
UNAVAILABLE = "503"
RECYCLED = 'baliblissed_worker_exits_total{reason="max_requests"}'
BURST_REQUESTS, BURST_CONNECTIONS, MAX_BURSTS = 50, 4, 100
MAX_LOOKS, LOOK_SECONDS = 600, 0.1
HOUR = 3600


@dataclass(frozen=True)
class Action:
    """One kind of action.

    `allows` are the kinds of failure that clients may see from its beginning to its recovery; `seconds` is how long it
    takes, about.
    """

    name: str
    run: Callable[[World], Awaitable[Leaving]]
    seconds: float
    allows: frozenset[str] = frozenset()
    needs: str = ""
    scrapes_may_fail: bool = False
    """The exporter is killed, perhaps during a scrape."""
    counts_may_be_lost: bool = False
    """Workers start without space for their series."""


async def reload(world: World) -> Leaving:
    leaving = world.service.workers()
    world.service.signal(signal.SIGHUP)
    return leaving


async def terminate_worker(world: World) -> Leaving:
    return _signal_one(world, signal.SIGTERM)


async def kill_worker(world: World) -> Leaving:
    return _signal_one(world, signal.SIGKILL)


async def kill_worker_during_reload(world: World) -> Leaving:
    """Kill an old worker or a new one, which is then started again."""
    leaving = await reload(world)
    await asyncio.sleep(world.some(0.1, 1.5))
    killed = _signal_one(world, signal.SIGKILL)
    return leaving if killed[0] in leaving else killed


async def pause_worker(world: World) -> Leaving:
    stopped = _signal_one(world, signal.SIGSTOP)
    await asyncio.sleep(world.some(0.5, 2.0))
    _continue(stopped)
    return []


async def hang_worker(world: World) -> Leaving:
    """Stop a worker for good: the master kills it after WORKER_TIMEOUT."""
    return _signal_one(world, signal.SIGSTOP)


async def kill_exporter(world: World) -> Leaving:
    exporter = world.service.exporter()
    if exporter is None:
        return []
    exporter.kill()
    return [exporter]


async def recycle(world: World) -> Leaving:
    """Send more requests until a worker has reached MAX_REQUESTS."""
    before = (await world.service.scrape()).get(RECYCLED, 0.0)
    for _ in range(MAX_BURSTS):
        await asyncio.gather(*(world.traffic.burst(BURST_REQUESTS) for _ in range(BURST_CONNECTIONS)))
        if (await world.service.scrape()).get(RECYCLED, 0.0) > before:
            break
    return []


async def stop_postgres(world: World) -> Leaving:
    await world.postgres.stop()
    await asyncio.sleep(world.some(0.5, 3.0))
    await world.postgres.start()
    return []


async def reload_without_postgres(world: World) -> Leaving:
    await world.postgres.stop()
    leaving = await reload(world)
    await asyncio.sleep(world.some(1.0, 4.0))
    await world.postgres.start()
    return leaving


async def hang_postgres(world: World) -> Leaving:
    world.postgres.suspend()
    await asyncio.sleep(world.some(1.0, 5.0))
    world.postgres.resume()
    return []


async def slow_postgres(world: World) -> Leaving:
    world.postgres.proxy.delay = world.some(0.02, 0.06)
    await asyncio.sleep(world.some(1.5, 4.0))
    world.postgres.proxy.delay = 0.0
    return []


async def fail_postgres_over(world: World) -> Leaving:
    """Answer as a standby that does not take writes, then lose all sessions and recover on the same address."""
    await world.postgres.set_read_only(read_only=True)
    await asyncio.sleep(world.some(0.5, 2.0))
    await world.postgres.set_read_only(read_only=False)
    world.postgres.crash()
    world.postgres.proxy.cut()
    return []


async def stop_redis(world: World) -> Leaving:
    await world.redis.stop()
    await asyncio.sleep(world.some(0.5, 3.0))
    await world.redis.start()
    return []


async def hang_redis(world: World) -> Leaving:
    world.redis.suspend()
    await asyncio.sleep(world.some(0.5, 4.0))
    world.redis.resume()
    return []


async def slow_redis(world: World) -> Leaving:
    world.redis.proxy.delay = world.some(0.02, 0.2)
    await asyncio.sleep(world.some(1.5, 4.0))
    world.redis.proxy.delay = 0.0
    return []


async def fail_redis_over(world: World) -> Leaving:
    """Answer as a replica that does not take writes, then start again, empty, on the same address."""
    await world.redis.set_read_only(read_only=True)
    await asyncio.sleep(world.some(0.5, 2.0))
    world.redis.crash()
    world.redis.proxy.cut()
    return []


async def refuse_collector(world: World) -> Leaving:
    world.collector.refuse()
    await asyncio.sleep(world.some(2.0, 6.0))
    await world.collector.start()
    return []


async def blackhole_collector(world: World) -> Leaving:
    """Accept the collector's connections, and read nothing; a worker leaves meanwhile, which flushes its spans."""
    world.collector.stall()
    leaving = _signal_one(world, signal.SIGTERM)
    await asyncio.sleep(world.some(2.0, 6.0))
    world.collector.flow()
    return leaving


async def fill_metrics_disk(world: World) -> Leaving:
    """Replace the workers where there is no room for their series, and again once there is."""
    world.disks[METRICS_DISK].fill()
    leaving = await reload(world)
    await _until_ended(leaving)
    await asyncio.sleep(world.some(0.5, 2.0))
    world.disks[METRICS_DISK].release()
    return await reload(world)


async def fill_database_disk(world: World) -> Leaving:
    world.disks[DATABASE_DISK].fill()
    await asyncio.sleep(world.some(2.0, 5.0))
    world.disks[DATABASE_DISK].release()
    return []


async def exhaust_descriptors(world: World) -> Leaving:
    """Set a worker's descriptor limit to the number in use, while all clients reconnect."""
    worker = world.chance.choice(world.service.workers())
    with contextlib.suppress(psutil.NoSuchProcess):  # it has been recycled meanwhile
        before = worker.rlimit(psutil.RLIMIT_NOFILE)
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds(), before[1]))
        world.traffic.reconnect()
        await asyncio.sleep(world.some(1.0, 3.0))
        worker.rlimit(psutil.RLIMIT_NOFILE, before)
    return []


async def leave_output_unread(world: World) -> Leaving:
    """Do not read standard output, and replace a worker meanwhile."""
    world.service.stop_reading()
    leaving = _signal_one(world, signal.SIGTERM)
    await asyncio.sleep(world.some(3.0, 5.0))
    world.service.read()
    return leaving


async def step_clock(world: World) -> Leaving:
    """Set the service's clock an hour ahead, an hour back, and right again."""
    assert world.clock is not None  # noqa: S101 -- declared by `needs`
    for offset in (HOUR, -HOUR, 0):
        world.clock.step(offset)
        await asyncio.sleep(world.some(0.5, 2.0))
    return []


def _signal_one(world: World, number: signal.Signals) -> Leaving:
    """Send a signal to a random worker and return it."""
    while True:
        worker = world.chance.choice(world.service.workers())
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.send_signal(number)
            return [worker]


def _continue(stopped: Leaving) -> None:
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


async def _until_ended(leaving: Leaving) -> None:
    """Wait for the end of processes. A process that does not end fails the checks that follow."""
    for _ in range(MAX_LOOKS):
        if not any(process.is_running() for process in leaving):
            return
        await asyncio.sleep(LOOK_SECONDS)


AWAY = frozenset({UNAVAILABLE})
KILLED = frozenset({CLOSED})
SHORT = (
    Action("reload", reload, 5),
    Action("terminate_worker", terminate_worker, 3),
    Action("kill_worker", kill_worker, 3, KILLED),
    Action("kill_worker_during_reload", kill_worker_during_reload, 6, KILLED),
    Action("pause_worker", pause_worker, 3),
    Action("kill_exporter", kill_exporter, 3, scrapes_may_fail=True),
    Action("recycle", recycle, 4),
    Action("stop_postgres", stop_postgres, 5, AWAY),
    Action("hang_postgres", hang_postgres, 6, AWAY),
    Action("slow_postgres", slow_postgres, 4, AWAY),
    Action("fail_postgres_over", fail_postgres_over, 4, AWAY),
    Action("stop_redis", stop_redis, 4),
    Action("hang_redis", hang_redis, 4),
    Action("slow_redis", slow_redis, 4),
    Action("fail_redis_over", fail_redis_over, 4),
    Action("refuse_collector", refuse_collector, 5),
    Action("exhaust_descriptors", exhaust_descriptors, 4, frozenset({CLOSED, REFUSED, UNAVAILABLE})),
    Action("leave_output_unread", leave_output_unread, 5),
    Action("step_clock", step_clock, 5, needs=CLOCK),
)
LONG = (
    Action("hang_worker", hang_worker, 26, KILLED),
    Action("reload_without_postgres", reload_without_postgres, 15, AWAY),
    Action("blackhole_collector", blackhole_collector, 10),
    Action("fill_metrics_disk", fill_metrics_disk, 12, needs=METRICS_DISK, counts_may_be_lost=True),
    Action("fill_database_disk", fill_database_disk, 8, AWAY, needs=DATABASE_DISK),
)
ACTIONS = {action.name: action for action in (*SHORT, *LONG)}
