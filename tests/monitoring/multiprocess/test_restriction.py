"""`name[]`: the samples that a scrape asks for. The library's restricted registry is the oracle."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest

from tests.monitoring.multiprocess.simulated import OPENMETRICS, Scene

NAMES = [
    "rides",
    "rides_total",
    "depth",
    "took",
    "took_bucket",
    "took_sum",
    "took_count",
    "size_sum",
    "size_count",
    "x",
]


def use(registry: CollectorRegistry) -> None:
    """Make a metric of each kind, with text in labels that looks like other lines."""
    odd = 'a\rtook_sum 7\n# \\ " {'
    Counter("rides", "Rides.", ["way"], registry=registry).labels(odd).inc(4)
    Gauge("depth", "Depth.", registry=registry, multiprocess_mode="max").set(1)
    took = Histogram("took", "Took.\rtook_sum", ["way"], registry=registry, buckets=(1,))
    took.labels(odd).observe(0.5)
    Summary("size", "Size.", registry=registry).observe(2)


def samples(text: str) -> set[str]:
    """Return the lines, without those that only the library's values in memory have."""
    return {line for line in text.split("\n") if "_created" not in line}


@pytest.fixture(scope="module")
def oracle() -> CollectorRegistry:
    """Return a registry with values in memory."""
    own = CollectorRegistry()
    use(own)
    return own


@pytest.mark.parametrize("names", [[], *([name] for name in NAMES), ["took_sum", "took_bucket", "rides_total"], NAMES])
def test_names_give_the_samples_that_the_library_gives(
    scene: Scene, oracle: CollectorRegistry, names: Iterable[str]
) -> None:
    with scene.worker().at_work():
        use(CollectorRegistry())
    wanted = frozenset(names)
    found = scene.aggregate().exposition("", names=wanted)[0].decode()
    assert samples(found) == samples(generate_latest(oracle.restricted_registry(wanted)).decode())


def test_openmetrics_without_a_sample_is_only_its_end(scene: Scene) -> None:
    with scene.worker().at_work():
        use(CollectorRegistry())
    assert scene.aggregate().exposition(OPENMETRICS, names=frozenset({"x"}))[0] == b"# EOF\n"
