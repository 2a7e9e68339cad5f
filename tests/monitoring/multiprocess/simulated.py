"""A metrics directory whose processes are simulated in this one, with real files, locks and deaths."""

import os
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client import values as library
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar

from app.monitoring.metrics.catalogue import account
from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.multiprocess.archive import Files
from app.monitoring.multiprocess.folder import Folder
from app.monitoring.multiprocess.reader import OnBad, Reader

Series = tuple[str, frozenset[tuple[str, str]]]
Samples = dict[Series, float]
OPENMETRICS = "application/openmetrics-text"
MANY = 1000
# A file system in memory, if there is one: tests do not wait for a disk.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- the names in it are random
_numbers = count(1)
# Made here, in single-process mode: an aggregate's own figures must not come to be among those of a test.
account()


class Worker:
    """One process. Metrics count for it within `at_work`; `die` lets go of its lock, as the kernel would."""

    def __init__(self, prefix: str) -> None:
        self.process = values.Process(prefix)

    @property
    def identity(self) -> str:
        return self.process.identity

    @contextmanager
    def at_work(self) -> Iterator[None]:
        before, values._process = values._process, self.process
        try:
            yield
        finally:
            values._process = before

    def die(self) -> None:
        self.process.close()


class Keeper:
    """A reader that folds dead processes while it holds the folding lock, as the exporter does."""

    def __init__(self, directory: Path, max_series: int, files: type[Files]) -> None:
        self.reader = Reader(directory, max_series, complain)
        self.folder = Folder(directory, files)

    def fold(self) -> int:
        """Read, and fold whoever has died."""
        self.reader.refresh()
        folded = self.folder.fold(self.reader) if self.folder.in_charge() else 0
        self.reader.refresh()
        return folded

    def scrape(self) -> Samples:
        self.fold()
        return shown(self.reader)

    def die(self) -> None:
        release(self.folder)


class Scene:
    """A directory and its processes."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def worker(self, prefix: str | None = None) -> Worker:
        # Each has a `pid` label of its own, as processes have, unless it is told otherwise. A new reader takes files by
        # name: the digits keep that the order of the calls.
        started = Worker(f"w{next(_numbers):06}x" if prefix is None else prefix)
        self._stack.callback(started.die)
        return started

    def keeper(self, max_series: int = MANY, files: type[Files] = Files) -> Keeper:
        started = Keeper(self.directory, max_series, files)
        self._stack.callback(started.die)
        return started

    def aggregate(self, *, folds: bool = True, max_series: int = MANY) -> Aggregate:
        made = Aggregate(self.directory, folds=folds, max_series=max_series, account=account())
        if made.folder is not None:
            self._stack.callback(release, made.folder)
        return made

    def reader(self, max_series: int = MANY, on_bad: OnBad | None = None) -> Reader:
        """Return a new reader that has read the directory."""
        made = Reader(self.directory, max_series, on_bad or complain)
        made.refresh()
        return made

    def samples(self) -> Samples:
        """Return the samples of a new reader."""
        return shown(self.reader())

    def names(self) -> set[str]:
        return {file.name for file in self.directory.iterdir()}


@contextmanager
def scene() -> Iterator[Scene]:
    """Yield a new directory. Metrics created meanwhile write to it through our values; its processes end afterwards."""
    with tempfile.TemporaryDirectory(dir=FAST) as path, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv(values.DIRECTORY, path)
        patch.setattr(library, "ValueClass", values.SharedValue)
        patch.setattr(values, "_process", values.Process())
        stack.callback(lambda: values.process().close())
        yield Scene(Path(path), stack)
    for metric in _stored(REGISTRY, registry()):
        metric._metric_init()  # type: ignore[no-untyped-call]


def _stored(*registries: CollectorRegistry) -> Iterator[MetricWrapperBase]:
    """Yield the metrics and series of this process whose values are in files: those that were first used in a scene."""
    collectors = [one for registry in registries for one in registry._collector_to_names]
    for metric in (one for one in collectors if isinstance(one, MetricWrapperBase)):
        for series in metric._metrics.values() if metric._labelnames else (metric,):
            if any(isinstance(value, values.SharedValue) for value in _values(series)):
                yield series


def _values(series: MetricWrapperBase) -> Iterator[object]:
    for held in vars(series).values():
        yield from held if isinstance(held, list) else (held,)


def release(folder: Folder) -> None:
    """Release the folding lock, as the end of its process does."""
    if folder._lock is not None:
        folder._lock.close()
        folder._lock = None


def complain(path: Path, error: Exception) -> None:
    raise AssertionError(f"{path.name}: {error}")


def text(reader: Reader, *, openmetrics: bool = False) -> str:
    """Return the exposition of the last reading."""
    if openmetrics:
        reader.read_exemplars()
    parts = [family.text(openmetrics=openmetrics).decode() for _, family in sorted(reader.families.items())]
    return "".join([*parts, "# EOF\n"] if openmetrics else parts)


def samples(exposition: str) -> Samples:
    """Return the samples of a text exposition; a duplicate sample fails the test."""
    found: Samples = {}
    for family in parse_text(exposition):
        for sample in family.samples:
            series = sample.name, frozenset(sample.labels.items())
            assert series not in found, f"{series} is there twice"
            found[series] = sample.value
    return found


def shown(reader: Reader) -> Samples:
    return samples(text(reader))


def exemplars(exposition: str) -> dict[Series, Exemplar]:
    """Return the exemplars of an OpenMetrics exposition."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.exemplar
        for family in parse_openmetrics(exposition)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


# Signals that a child ends by. Not `os._exit`: the coverage tool then writes files, and waits for locks of threads that
# the child does not have.
DONE, FAILED = signal.SIGUSR1, signal.SIGUSR2


def forked(work: Callable[[], object]) -> int:
    """Start a child that does `work` and returns its process id. `ended` says whether it succeeded."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside other threads. The child runs nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    end = FAILED
    try:
        work()
        end = DONE
    except BaseException:  # noqa: BLE001 -- the child must not go on as a second run of the tests
        traceback.print_exc()
    finally:
        signal.signal(end, signal.SIG_DFL)
        os.kill(os.getpid(), end)
    raise AssertionError("a signal that nobody handles ends the process")


def ended(pid: int) -> int:
    """Return 0 if the child succeeded, 1 if it failed, -9 if it was killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {-DONE: 0, -FAILED: 1}.get(status, status)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL


class Killed(BaseException):
    """The end of the process that folds."""


def watched(point: Callable[[], None]) -> type[Files]:
    """Wrap the calls that change the directory: call `point` before and after each, and half-way through a write."""

    class Watched(Files):
        @staticmethod
        def write(path: Path, content: bytes) -> None:
            point()
            path.write_bytes(content[: len(content) // 2])
            point()
            Files.write(path, content)
            point()

        @staticmethod
        def rename(old: Path, new: Path) -> None:
            point()
            Files.rename(old, new)
            point()

        @staticmethod
        def remove(path: Path) -> None:
            point()
            Files.remove(path)
            point()

    return Watched


def fatal(step: int) -> type[Files]:
    """Wrap the same calls; the process dies at the `step`-th point, counted from 0."""
    passed = count()

    def point() -> None:
        if next(passed) == step:
            raise Killed

    return watched(point)
