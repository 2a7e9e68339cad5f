"""Cost of redaction: microseconds of CPU for an event, and its growth with hostile texts.

python -m loadtest.benchmarks.redaction     build/bench/redaction.json
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from app.monitoring.redaction import redact_event
from app.monitoring.redaction.budget import Budget
from app.monitoring.redaction.text import scrub
from app.monitoring.traces.span_redaction import _attributes
from loadtest.benchmarks.command import Depth, Figures, options, run, table

BUDGET_US = 10.0
EVENTS = 2_000
ROUNDS = {Depth.QUICK: 3, Depth.DEFAULT: 7, Depth.FULL: 21}
SHORT = 4_096
ROUTES = ("/api/v1/destinations", "/api/v1/destinations/{slug}", "/api/v1/inquiries", "/health/ready")
HOSTILE = {
    "a@a@a@": "a@",
    "digits": "1",
    "digits and blanks": "4 ",
    "digits and dashes": "12-",
    "nested quotes": "\"'",
    "escaped quotes": '\\"',
    "names without values": "password=",
    "open brackets": "password:[(",
    "Bearer again and again": "Bearer ",
    "half a JWT": "eyJ",
    "half a UUID": "12345678-1234-",
    "percent signs": "%25",
    "URLs": "http://u:p",
    "phones": "+62 812-3456-7890 ",
}


def typical(number: int) -> dict[str, Any]:
    """Return the fields of an access-log line; ids and times differ from one to the next."""
    return {
        "event": "request",
        "level": "info",
        "logger": "access",
        "method": "GET",
        "route": ROUTES[number % len(ROUTES)],
        "status": 200,
        "duration_ms": 1.25 + number % 977 / 100,
        "request_id": f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}",
        "trace_id": f"{(number + 7) * 0xC2B2AE3D27D4EB4F165667B19E3779F9 % 2**128:032x}",
        "client_ip": f"198.51.{number % 100}.0/24",
        "timestamp": f"2026-11-23T20:{number // 60 % 60:02}:{number % 60:02}.{number * 7919 % 10**6:06}Z",
    }


def with_secrets(number: int) -> dict[str, Any]:
    """Return the same fields, with values that must be redacted in four of them."""
    return {
        **typical(number),
        "event": f"booking {number} for guest{number}@example.com, call +62 812-3456-{number % 10_000:04}",
        "url": f"https://bali.test/pay?card=4111111111111111&token=abc{number}&page=2",
        "authorization": f"Bearer abcdef{number}",
        "guest": {
            "name": "Guest",
            "phone": f"08123456{number % 10_000:04}",
            "notes": ["vegetarian", "NIK 5171012304900001"],
        },
    }


def with_traceback(number: int) -> dict[str, Any]:
    """Return an error event with a traceback of 20 frames that quotes an address."""
    frame = (
        '  File "/srv/app/api/inquiries.py", line {0}, in add\n    row = await inquiries.add(database, inquiry, {0})\n'
    )
    frames = "".join(frame.format(line) for line in range(20))
    end = f"ValueError: guest{number}@example.com is not wanted"
    return {**typical(number), "exception": f"Traceback (most recent call last):\n{frames}{end}"}


KINDS = {"typical": typical, "with secrets": with_secrets, "with a traceback": with_traceback}


def microseconds(call: Callable[[dict[str, Any]], object], events: list[dict[str, Any]], rounds: int) -> float:
    """Return the CPU time of `call` for one event: the best of several rounds, since others share the machine."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time_ns()
        for event in events:
            call(event)
        best = min(best, time.process_time_ns() - started)
    return best / len(events) / 1_000


def growth(piece: str, rounds: int) -> Figures:
    """Return the CPU time for a hostile text, and the factor for one four times as long: about 4 if time is linear."""
    texts = [(piece * (length // len(piece) + 1))[:length] for length in (SHORT, 4 * SHORT)]
    short, long = (
        microseconds(lambda event: scrub(event["text"], Budget(len(event["text"]))), [{"text": text}], rounds)
        for text in texts
    )
    return {"ns_per_character": round(long * 1_000 / (4 * SHORT), 1), "ratio_for_four_times": round(long / short, 2)}


def measure(depth: Depth) -> Figures:
    """Measure events of each kind, as log events and as spans, and hostile texts."""
    found = {}
    for name, make in KINDS.items():
        events = [make(number) for number in range(EVENTS if name == "typical" else EVENTS // 10)]
        calls: dict[str, Callable[[dict[str, Any]], object]] = {
            "event_us": redact_event,
            "attributes_us": _attributes,
        }
        found[name] = {what: round(microseconds(call, events, ROUNDS[depth]), 2) for what, call in calls.items()}
    typical_us = found["typical"]["event_us"]
    return {
        "events": found,
        "fields": len(typical(0)),
        "growth": {name: growth(piece, ROUNDS[depth]) for name, piece in HOSTILE.items()},
        "budgets": [
            {"budget": "a typical event, us", "at_most": BUDGET_US, "found": typical_us, "met": typical_us <= BUDGET_US}
        ],
    }


def text(figures: Figures) -> str:
    """Format the tables."""
    events = [["redaction of", "log event, us", "attributes, us"]]
    events += [
        [name, f"{one['event_us']:.1f}", f"{one['attributes_us']:.1f}"] for name, one in figures["events"].items()
    ]
    hostile = [["hostile text", "ns a character", "four times as long"]]
    hostile += [
        [name, f"{one['ns_per_character']:.1f}", f"{one['ratio_for_four_times']:.1f}x"]
        for name, one in figures["growth"].items()
    ]
    (budget,) = figures["budgets"]
    verdict = f"{budget['budget']}: at most {budget['at_most']:g}, {budget['found']:.1f}: "
    return "\n".join([table(events), "", table(hostile), "", verdict + ("met" if budget["met"] else "MISSED")])


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("redaction", measure, text, depth)


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.redaction").parse_args().depth))
