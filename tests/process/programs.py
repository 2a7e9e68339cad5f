"""Programs that log in ways of their own, each in a real process; the first line of each sets logging up."""

SET_UP = """
import asyncio, atexit, json, logging, os, random, sys, threading
import tests.coverage_forks
from app.monitoring.logs.writer import MAX_BYTES, MAX_LINES, flush
from app.monitoring.logging import configure, get_logger
configure(renderer="json", level="INFO", service="test", version="1", environment="test")
log = get_logger("test")
"""

# argv: which process this is, and how many lines it writes.
MANY_LINES = """
process, lines = map(int, sys.argv[1:])
chance = random.Random(process)
for number in range(lines):
    # Up to 10 KB in UTF-8, one line in two short.
    length = chance.choice([chance.randrange(50), chance.randrange(5_000)])
    log.info("many", process=process, number=number, body="é" * length)
    if number % 100 == 0:
        flush(60)
"""

# Logs more than a backlog holds while nobody reads, says on stderr how that went, and goes on when stdin ends.
STALLED_READER = """
from app.monitoring.metrics.catalogue import catalogue
from app.monitoring.metrics.registry import registry
catalogue()
writer = log.bind()._logger._write.__self__
turns = 0

async def turn():
    global turns
    while True:
        turns += 1
        await asyncio.sleep(0)

async def main():
    turning = asyncio.create_task(turn())
    longest = 0
    for number in range(12_000):
        log.info("stalled", number=number)
        longest = max(longest, len(writer._backlog.lines))
        if writer._backlog.lines and number % 10 == 0:
            await asyncio.sleep(0)
    def dropped():
        return registry().get_sample_value("baliblissed_log_lines_dropped_total", {"reason": "queue_full"})
    while not dropped():
        await asyncio.sleep(0.01)
    told = {"turns": turns, "lines": longest, "bytes": writer._backlog.size, "dropped": dropped()}
    print(json.dumps({**told, "max_lines": MAX_LINES, "max_bytes": MAX_BYTES}), file=sys.stderr, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.to_thread(flush, 60)
    log.info("after")
    turning.cancel()

asyncio.run(main())
"""

# argv: how to end. More lines than the pipe holds are logged before.
END = """
for number in range(3_000):
    log.info("end", number=number)
atexit.register(log.info, "at exit")
print("logged", file=sys.stderr, flush=True)
exec(sys.argv[1])
"""

# argv: how many threads. Finalisers and daemon threads go on logging while the interpreter ends.
LAST_WORDS = """
class Last:
    def __del__(self, log=log, library=logging.getLogger("library")):
        log.info("last words")
        library.warning("last words")

last = Last()

def chatter(number):
    while True:
        log.info("chatter", thread=number)
        logging.getLogger("library").warning("chatter of %d", number)

for number in range(int(sys.argv[1])):
    threading.Thread(target=chatter, args=[number], daemon=True).start()
log.info("started")
"""

# Children are forked while threads log and hold locks. Each thread writes a fixed number of lines for each child: if it
# wrote until the last fork, a busy machine would make it write more.
FORKS = """
CHILDREN, THREADS, LINES = 40, 4, 60
turns = [threading.Semaphore(0) for _ in range(THREADS)]
writing = threading.Semaphore(0)

def chatter(number):
    for line in range(CHILDREN * LINES):
        if line % LINES == 0:
            turns[number].acquire()
        if line % LINES == 5:
            writing.release()
        log.info("parent", thread=number, number=line)
        logging.getLogger("library").warning("parent")

threads = [threading.Thread(target=chatter, args=[number]) for number in range(THREADS)]
for thread in threads:
    thread.start()
for child in range(CHILDREN):
    for turn in turns:
        turn.release()
    writing.acquire()  # one writes, the others are about to
    pid = os.fork()
    if pid == 0:
        for number in range(5):
            log.info("child", child=child, number=number)
            logging.getLogger("library").warning("child %d", child)
        os._exit(0 if flush(60) else 1)
    if os.waitpid(pid, 0)[1]:
        log.error("child_failed", child=child)
    for _ in turns[1:]:
        writing.acquire()
for thread in threads:
    thread.join()
log.info("all ended")
flush(60)
"""
