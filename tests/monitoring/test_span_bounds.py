"""Redaction reads a bounded part of one span, whatever a stranger writes into a request and has sampled."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.monitoring.redaction.budget import MAX_CHARACTERS, MAX_ITEMS
from app.monitoring.redaction.numbers import Numbers
from app.monitoring.redaction.text import _PASSES, redact_within
from app.monitoring.traces import span_redaction
from app.monitoring.traces.span_redaction import MAX_NUMBERS, RedactingExporter, redact_query
from tests.middleware.applications import Records, fastapi_house
from tests.middleware.wire import Wire

LENGTH = 16_384
REQUESTS = 40
PHONE = "+62 812 3456 7890"
# Pieces of queries that take the most time for each character, and names and values of many fields.
PIECES = [
    "8+",
    "%2B8",
    "8%2B",
    "%258",
    "+1 2",
    "1-",
    "a=8+&",
    "8+8+8+8+&",
    "8+8+8+8+=&",
    "=3D",
    "%25%25",
    "key=",
    "..",
    "[(",
]


def text(piece: str, length: int = LENGTH) -> str:
    return (piece * (length // len(piece) + 1))[:length]


def exported(*spans: ReadableSpan) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    RedactingExporter(kept).export(spans)
    return list(kept.get_finished_spans())


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Yield a list whose only item is the number of places at which a number was looked for."""
    counted = [0]
    look = Numbers._look

    def counting(*arguments: Any) -> Any:
        counted[0] += 1
        return look(*arguments)

    monkeypatch.setattr(Numbers, "_look", counting)
    span_redaction._cache.clear()
    yield counted
    span_redaction._cache.clear()


async def seconds_for(query: str) -> float:
    """Return the CPU time of requests with this query that their caller has sampled, up to the redacted spans."""
    kept, records = InMemorySpanExporter(), Records(ratio=0.0)
    records.provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(kept)))
    app = records.observe(fastapi_house())
    started = time.process_time()
    for number in range(REQUESTS):
        headers = ((b"traceparent", f"00-{number + 1:032x}-{1:016x}-01".encode()),)
        await Wire("/beaches/kuta", query_string=query.encode(), headers=headers).run(app)
    spent = time.process_time() - started
    assert len(kept.get_finished_spans()) == REQUESTS
    return spent


async def test_sampled_requests_with_a_hostile_query_cost_little_more_than_ordinary_ones(looks: list[int]) -> None:
    """Without bounds the CPU time of the first query is 200 to 300 times that of the last one."""
    hostile = await seconds_for(text("8+"))
    assert looks[0] <= REQUESTS * MAX_NUMBERS * _PASSES
    ordinary = await seconds_for(text("place=ubud+bali&"))
    assert hostile <= 30 * ordinary


@pytest.mark.parametrize("piece", PIECES)
def test_in_one_span_numbers_are_looked_for_at_a_bounded_number_of_places(piece: str, looks: list[int]) -> None:
    value = text(piece)
    attributes = {"url.query": value, "url.path": value, "url.full": f"http://h/?{value}", "user_agent.original": value}
    short = {f"header.{number}": text(piece, 200 + number % 50) for number in range(100)}
    span = ReadableSpan("GET", attributes={**attributes, **short}, events=[Event("e", {"exception.message": value})])
    exported(span)
    assert looks[0] <= MAX_NUMBERS * _PASSES


def test_of_one_span_a_bounded_number_of_characters_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    scrub = redact_within

    def counting(value: str, budget: Any, **options: Any) -> str:
        before = budget.characters
        clean = scrub(value, budget, **options)
        read.append(before - budget.characters)
        return clean

    monkeypatch.setattr("app.monitoring.redaction.structures.redact_within", counting)
    monkeypatch.setattr(span_redaction, "redact_within", counting)
    attributes = {f"note.{number}": f"{number} {text('a b ')}" for number in range(100)}
    (span,) = exported(ReadableSpan("GET", attributes=attributes))
    assert 0.9 * MAX_CHARACTERS < sum(read) <= MAX_CHARACTERS
    values = [str(value) for value in (span.attributes or {}).values()]
    assert len(values) == 100
    assert values[0].startswith("0 a b a b")
    assert "a b" not in values[-1]


@pytest.mark.parametrize("piece", ["8+", "%2B8", "8 ", "1-", "a 10000001 "])
def test_behind_the_bound_no_digit_is_shown(piece: str) -> None:
    value = text(piece, 10_000) + PHONE
    (span,) = exported(ReadableSpan("GET", attributes={"url.query": value, "note": value}))
    shown = [str(value) for value in (span.attributes or {}).values()]
    assert all("3456" not in unquote_plus(value) for value in shown)
    assert shown[1].count("#") > 1_000


def test_as_many_ordinary_numbers_as_the_bound_allows_stay() -> None:
    value = " ".join(f"at 2026-11-{number % 28 + 1:02}T20:00:{number % 60:02}" for number in range(MAX_NUMBERS // 2))
    (span,) = exported(ReadableSpan("GET", attributes={"note": value}))
    assert dict(span.attributes or {}) == {"note": value}


def test_of_a_query_with_very_many_fields_the_first_are_kept() -> None:
    redacted = redact_query("&".join(f"a{number}=1" for number in range(MAX_ITEMS + 5)) + "&password=quokka")
    assert redacted.startswith("a0=1&a1=1&")
    assert redacted.endswith(f"a{MAX_ITEMS - 1}=1[cut]")
    assert redact_query("a=1&" * (MAX_ITEMS - 1) + "b=2").endswith("a=1&b=2")
    assert redact_query(f"password=quokka&{'&' * 5_000}").startswith("password=[redacted]")


def test_of_a_list_with_very_many_items_the_first_are_kept() -> None:
    texts = (*map(str, range(MAX_ITEMS)), *("more",) * 7)
    (span,) = exported(ReadableSpan("GET", attributes={"texts": texts, "numbers": tuple(range(10))}))
    found = dict(span.attributes or {})
    assert found["texts"][-2:] == (str(MAX_ITEMS - 1), "[cut 7 items]")  # type: ignore[index]
    assert found["numbers"] == ()
