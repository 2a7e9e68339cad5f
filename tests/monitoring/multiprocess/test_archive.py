"""The archive's file and its arithmetic."""

import math
from array import array
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.samples import Exemplar

from app.monitoring.multiprocess.archive import MAGIC, MAX_DEAD_SHOWN, Archive, BadArchiveError, add_exactly, decode

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(PATIENT, max_examples=40)
NUMBERS = st.floats()
KEYS = st.text(st.characters(codec="utf-8"), max_size=10).map(str.encode)
IDENTITIES = st.from_regex(r"\w{1,5}-[0-9a-f]{8}", fullmatch=True)
KINDS = st.sampled_from(["counter", "histogram", "gauge_sum"])
EXEMPLARS = st.builds(Exemplar, st.dictionaries(st.text(max_size=3), st.text(max_size=3)), NUMBERS, st.floats(1, 1e10))


@st.composite
def archives(draw: st.DrawFn) -> Archive:
    keys = draw(st.lists(st.tuples(KINDS, KEYS), unique=True, max_size=8))
    numbers = st.lists(NUMBERS, min_size=len(keys), max_size=len(keys))
    return Archive(
        epoch=draw(st.text(max_size=4)),
        generation=draw(st.integers(0, 1 << 40)),
        folded=frozenset(draw(st.lists(IDENTITIES, max_size=4))),
        keys=keys,
        first=array("d", draw(numbers)),
        second=array("d", draw(numbers)),
        shown=draw(st.lists(st.tuples(IDENTITIES, st.lists(st.tuples(KINDS, KEYS, NUMBERS, NUMBERS), max_size=3)))),
        exemplars=draw(st.dictionaries(KEYS, EXEMPLARS, max_size=3)),
    )


def same(one: Archive, other: Archive) -> bool:
    """Return True if they are equal, with NaN equal to NaN."""
    return one.folded == other.folded and repr(_without_order(one)) == repr(_without_order(other))


def _without_order(archive: Archive) -> tuple[object, ...]:
    told = archive.epoch, archive.generation, archive.keys, archive.first, archive.second
    return *told, archive.shown, sorted(archive.exemplars.items(), key=lambda item: item[0])


@FEW
@given(archives())
def test_what_is_written_is_read_with_infinities_and_what_is_no_number(archive: Archive) -> None:
    found = decode(archive.encode())
    assert same(found, archive)
    assert found.encode() == archive.encode()


@FEW
@given(archives(), st.integers(0), st.integers(1, 255))
def test_an_archive_with_one_wrong_byte_is_refused(archive: Archive, place: int, change: int) -> None:
    content = bytearray(archive.encode())
    content[place % len(content)] ^= change
    with pytest.raises(BadArchiveError):
        decode(bytes(content))


@PATIENT
@given(st.binary(max_size=200))
def test_other_content_is_refused(content: bytes) -> None:
    for spoilt in (content, MAGIC + content):
        with pytest.raises(BadArchiveError):
            decode(spoilt)


def total(amounts: Iterable[float]) -> tuple[float, float]:
    first = rest = 0.0
    for amount in amounts:
        first, rest = add_exactly(first, rest, amount)
    return first, rest


@PATIENT
@given(st.lists(st.one_of(st.floats(1e-6, 1e9), st.just(0.1)), max_size=100))
def test_sums_of_what_is_within_thirty_decimal_digits_are_exact(amounts: list[float]) -> None:
    first, rest = total(amounts)
    assert Fraction(first) + Fraction(rest) == sum(map(Fraction, amounts))
    assert first == math.fsum(amounts)


@PATIENT
@given(st.lists(st.floats(0, 1e300), max_size=50))
def test_sums_of_anything_are_within_the_last_digit_of_twice_the_precision(amounts: list[float]) -> None:
    first, rest = total(amounts)
    exact = sum(map(Fraction, amounts), Fraction(0))
    assert abs(Fraction(first) + Fraction(rest) - exact) <= exact * len(amounts) / 2**104


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([math.inf], math.inf),
        ([1.0, math.inf], math.inf),
        ([math.inf, 1.0, 2.0], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([1.7e308, 1.7e308], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
    ],
)
def test_what_is_infinite_stays_so(amounts: list[float], expected: float) -> None:
    assert repr(total(amounts)) == repr((expected, 0.0))


def test_a_copy_can_change_while_the_original_stays() -> None:
    archive = Archive()
    archive.add("counter", [b"a"], [(1.0, 0.0)])
    content = archive.encode()
    copy = archive.copy()
    copy.add_exemplars([(b"a", Exemplar({"trace_id": "1"}, 1.0, 5.0))])
    copy.add("counter", [b"a", b"b"], [(2.0, 0.0), (5.0, 0.0)])
    copy.add_all_gauges("1-00000000", "gauge_all", [b"c"], [(1.0, 0.0)])
    assert archive.encode() == content
    assert dict(zip(copy.keys, copy.first, strict=True)) == {("counter", b"a"): 3.0, ("counter", b"b"): 5.0}
    assert same(decode(copy.encode()), copy)


def test_gauges_of_so_many_dead_are_shown_and_no_more() -> None:
    archive = Archive()
    for number in range(3 * MAX_DEAD_SHOWN):
        archive.add_all_gauges(f"{number}-00000000", "gauge_all", [b"c"], [(float(number), 0.0)])
    shown = [int(identity.partition("-")[0]) for identity, _ in archive.shown]
    assert shown == list(range(2 * MAX_DEAD_SHOWN, 3 * MAX_DEAD_SHOWN))
