"""Files whose bytes are anything: every scrape succeeds, and nobody else's numbers change."""

import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram, Summary

from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.test_faults import HITS, counting, scrape

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Original:
    """The file of a process with one metric of each kind; made once."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        with simulated.scene() as scene:
            worker = scene.worker()
            with worker.at_work():
                self._fill()
            for file in scene.directory.iterdir():
                end = struct.unpack("=i", file.read_bytes()[:4])[0] if file.stat().st_size else 0
                if end:
                    self.contents[file.name.replace(worker.identity, "1-00000000")] = file.read_bytes()[: end + 64]

    @staticmethod
    def _fill() -> None:
        Counter("one", "One.", ("place",), registry=None).labels("Ubud").inc(2, {"trace_id": "1"})
        Histogram("two", "Two.", ("place",), registry=None, buckets=(1,)).labels("Kuta").observe(0.5, {"trace_id": "2"})
        Summary("three", "Three.", registry=None).observe(3)
        Gauge("four", "Four.", registry=None, multiprocess_mode="all").set(4)
        Gauge("five", "Five.", ("place",), registry=None, multiprocess_mode="mostrecent").labels("Amed").set(5)


ORIGINAL = Original()
DAMAGE = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 1 << 30), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("cut"), st.integers(0, 1 << 30), st.just(b"")),
    st.tuples(st.just("insert"), st.integers(0, 1 << 30), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("all"), st.just(0), st.binary(max_size=300)),
)


def damaged(content: bytes, damage: tuple[str, int, bytes]) -> bytes:
    what, place, other = damage
    place %= len(content)
    if what == "flip":
        return content[:place] + other + content[place + len(other) :]
    if what == "insert":
        return content[:place] + other + content[place:]
    return content[:place] if what == "cut" else other


@PATIENT
@given(st.sampled_from(sorted(ORIGINAL.contents)), st.lists(DAMAGE, min_size=1, max_size=3))
def test_whatever_bytes_a_file_has_every_scrape_succeeds_and_the_others_are_exact(
    name: str, damages: list[tuple[str, int, bytes]]
) -> None:
    content = ORIGINAL.contents[name]
    for damage in damages:
        content = damaged(content or b"\0", damage)
    with simulated.scene() as scene:
        worker = counting(scene)
        folding, reading = scene.aggregate(), scene.aggregate(folds=False)
        assert scrape(folding) == scrape(reading) == {HITS: 2}
        (scene.directory / name).write_bytes(content)
        # Its process has ended: it is folded or set aside.
        for aggregate in (reading, folding, reading, scene.aggregate(folds=False)):
            assert scrape(aggregate)[HITS] == 2
        assert not (scene.directory / name).exists()
        with worker.at_work():
            Counter("hits", "Hits.", registry=None).inc(3)
        worker.die()
        for aggregate in (folding, reading, scene.aggregate(folds=False)):
            assert scrape(aggregate)[HITS] == 5
