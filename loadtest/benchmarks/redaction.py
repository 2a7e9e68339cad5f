"""What redaction costs: microseconds of CPU for an event, and how that grows with hostile texts.

    python -m loadtest.benchmarks.redaction

prints the figures and writes build/bench/redaction.json. The budget is 10 us for a typical event.
"""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.monitoring._redaction.text import scrub
from app.monitoring.redaction import redact_attributes, redact_event

RESULT = Path("build/bench/redaction.json")
BUDGET_US = 10.0
EVENTS = 2_000
ROUNDS = 7
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
    """The fields of an access-log line; ids and times differ from one to the next, as they do."""
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
    """The same, with what must not leave in four of its fields."""
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
    """An error with a traceback of 20 frames that quotes an address."""
    frame = (
        '  File "/srv/app/api/inquiries.py", line {0}, in add\n    row = await inquiries.add(database, inquiry, {0})\n'
    )
    frames = "".join(frame.format(line) for line in range(20))
    end = f"ValueError: guest{number}@example.com is not wanted"
    return {**typical(number), "exception": f"Traceback (most recent call last):\n{frames}{end}"}


def microseconds(call: Callable[[dict[str, Any]], object], events: list[dict[str, Any]]) -> float:
    """CPU time of `call` for one event: the best of several rounds, since others share the machine."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for event in events:
            call(event)
        best = min(best, time.process_time_ns() - started)
    return best / len(events) / 1_000


def growth(piece: str) -> dict[str, float]:
    """CPU time for a hostile text, and how much more four times the text takes: some 4 where time is in proportion."""
    texts = [(piece * (length // len(piece) + 1))[:length] for length in (SHORT, 4 * SHORT)]
    short, long = (microseconds(lambda event: scrub(event["text"]), [{"text": text}]) for text in texts)
    return {"ns_per_character": round(long * 1_000 / (4 * SHORT), 1), "ratio_for_four_times": round(long / short, 2)}


def main() -> None:
    """Measure, print, write."""
    kinds = {"typical": typical, "with_secrets": with_secrets, "with_traceback": with_traceback}
    result: dict[str, Any] = {"budget_us": BUDGET_US, "fields": len(typical(0))}
    for name, make in kinds.items():
        events = [make(number) for number in range(EVENTS if name == "typical" else EVENTS // 10)]
        result[f"{name}_event_us"] = round(microseconds(redact_event, events), 2)
        result[f"{name}_attributes_us"] = round(microseconds(redact_attributes, events), 2)
    result["growth"] = {name: growth(piece) for name, piece in HOSTILE.items()}
    for name, value in itertools.chain(list(result.items())[:-1], result["growth"].items()):
        print(f"{name:26} {value}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
