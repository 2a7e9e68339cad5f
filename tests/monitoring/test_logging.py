"""The fields of a log line, from structlog and the standard library."""

import asyncio
import json
import logging
import os
import time
import warnings
from datetime import UTC, datetime

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from app.monitoring.logging import count_dropped, get_logger
from app.monitoring.logs import chain as log_chain
from app.monitoring.logs.chain import MAX_TEXT_LENGTH
from app.monitoring.metrics.catalogue import catalogue
from app.monitoring.metrics.registry import registry
from tests.monitoring.conftest import Configure

SECRET = "wayan@example.com"


def test_a_line_says_when_where_and_who(configured: Configure) -> None:
    lines = configured()
    before = datetime.now(UTC)
    get_logger("cache").warning("redis_away", pause_seconds=1.0)
    line = lines.only()
    assert before <= datetime.fromisoformat(line.pop("timestamp")) <= datetime.now(UTC)
    assert line == {
        "level": "warning",
        "event": "redis_away",
        "logger": "cache",
        "service": "bali",
        "version": "1.2.3",
        "environment": "test",
        "worker": os.getpid(),
        "pause_seconds": 1.0,
    }


def test_a_record_of_the_standard_library_has_the_same_fields(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("Started")
    extra = {"color_message": "\x1b[1mStarted\x1b[0m", "port": 8000}
    logging.getLogger("uvicorn.error").info("Started on %s", "localhost", extra=extra)
    ours, theirs = lines.all()
    assert ours.keys() == theirs.keys() - {"port"}
    assert (theirs["event"], theirs["logger"], theirs["port"]) == ("Started on localhost", "uvicorn.error", 8000)
    assert (theirs["level"], theirs["service"], theirs["worker"]) == ("info", "bali", os.getpid())


def test_what_the_request_bound_is_in_every_line(configured: Configure) -> None:
    lines = configured()
    structlog.contextvars.bind_contextvars(request_id="abc")
    get_logger("ours").info("one")
    logging.getLogger("library").warning("two")
    assert [line["request_id"] for line in lines.all()] == ["abc", "abc"]


async def test_requests_side_by_side_keep_their_own_ids(configured: Configure) -> None:
    lines = configured()
    both = asyncio.Barrier(2)

    async def request(request_id: str) -> None:
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await both.wait()
        get_logger("ours").info(request_id)

    await asyncio.gather(request("a"), request("b"))
    assert all(line["request_id"] == line["event"] for line in lines.all())
    assert len(lines.all()) == 2


@pytest.mark.parametrize("sampled", [True, False])
def test_inside_a_span_a_line_carries_its_ids(configured: Configure, sampled: bool) -> None:  # noqa: FBT001
    lines = configured()
    provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("x") as span:
        get_logger("ours").info("inside")
        logging.getLogger("library").warning("inside")
    get_logger("ours").info("outside")
    context = span.get_span_context()
    *inside, outside = lines.all()
    for line in inside:
        assert line["trace_id"] == format(context.trace_id, "032x")
        assert line["span_id"] == format(context.span_id, "016x")
    assert not outside.keys() & {"trace_id", "span_id"}


def test_private_data_is_taken_out_of_every_field(configured: Configure) -> None:
    lines = configured()
    structlog.contextvars.bind_contextvars(user_email=SECRET)
    get_logger("ours").info(f"asked by {SECRET}", body={"notes": [SECRET], "password": "x"})
    logging.getLogger("library").warning("asked by %s", SECRET)
    assert SECRET not in lines.text
    ours, theirs = lines.all()
    assert ours["event"] == theirs["event"] == "asked by [email]"
    assert ours["body"] == {"notes": ["[email]"], "password": "[redacted]"}


def test_a_field_whose_name_starts_with_an_underscore_is_redacted_like_any_other(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("event", _note=SECRET)
    logging.getLogger("library").warning("event", extra={"_note": SECRET})
    assert [line["_note"] for line in lines.all()] == ["[email]", "[email]"]


def test_what_the_service_says_of_itself_cannot_be_said_otherwise(configured: Configure) -> None:
    lines = configured()
    false = {"timestamp": "1970", "level": "x", "logger": "x", "service": "x", "worker": 1}
    get_logger("ours").info("event", **false)
    structlog.contextvars.bind_contextvars(**false)
    logging.getLogger("library").warning("event")
    for line, logger in zip(lines.all(), ("ours", "library"), strict=True):
        assert (line["service"], line["logger"], line["worker"]) == ("bali", logger, os.getpid())
        assert line["timestamp"] > "2000"
        assert line["level"] in {"info", "warning"}


def test_of_a_very_long_text_what_stands_at_the_cut_is_not_shown(configured: Configure) -> None:
    lines = configured(renderer="console")  # which shows all of the rest
    half = MAX_TEXT_LENGTH // 2
    name = "waya" + "n" * 60
    body = "a" * (half - 20) + f" {name}@example.com " + "b" * (half - 30) + f" {SECRET} end"
    get_logger("ours").info("event", body=body, password="p" * (MAX_TEXT_LENGTH + 1))
    assert "waya" not in lines.text
    assert "@" not in lines.text
    assert "aaa...[cut]bbb" in lines.text
    assert "[email] end" in lines.text
    assert "password=[redacted]" in lines.text


def test_an_event_that_cannot_be_redacted_is_not_written_and_does_no_harm(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(event: object, **_: object) -> object:
        raise RuntimeError(event)

    monkeypatch.setattr(log_chain, "redact_event", fail)
    lines = configured()
    get_logger("ours").info("event", value=SECRET)
    line = lines.only()
    assert (line["event"], line["error"], line["logger"]) == ("log_event_not_readable", "RuntimeError", "ours")
    assert SECRET not in lines.text


def test_arguments_that_do_not_fit_their_message_are_written_beside_it(
    configured: Configure, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = configured()
    logging.getLogger("library").warning("%d guests of %s", SECRET)  # noqa: PLE1206
    line = lines.only()
    assert (line["event"], line["arguments"], line["error"]) == ("%d guests of %s", ["[email]"], "TypeError")
    assert capfd.readouterr() == ("", "")


def test_stacks_and_texts_of_exceptions_are_taken_over(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("event", stack_info=True)
    logging.getLogger("library").warning("event", stack_info=True)
    record = logging.LogRecord("far", logging.ERROR, "", 0, "event", (), None)
    record.exc_text = "as text"
    logging.getLogger().handle(record)
    ours, theirs, far = lines.all()
    for line in (ours, theirs):
        assert "test_stacks_and_texts" in line["stack"]
    assert (far["exception"], far["logger"]) == ("as text", "far")


def test_a_filter_on_the_handler_is_heard(configured: Configure) -> None:
    lines = configured()
    logging.getLogger().handlers[0].addFilter(lambda record: record.msg != "unwanted")
    logging.getLogger("library").warning("unwanted")
    logging.getLogger("library").warning("wanted")
    assert lines.only()["event"] == "wanted"


def test_an_exception_becomes_text_without_private_data(configured: Configure) -> None:
    lines = configured()
    try:
        int(SECRET)
    except ValueError:
        get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed")
    assert SECRET not in lines.text
    for line in lines.all():
        assert line["level"] == "error"
        assert "Traceback (most recent call last)" in line["exception"]
        assert "ValueError: invalid literal for int() with base 10: '[email]'" in line["exception"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({1, 2}, [1, 2]),
        (ValueError("x"), "x"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01 00:00:00+00:00"),
        (float("nan"), None),
        ({1: "a"}, {"1": "a"}),
        ("line\nbreak", "line\nbreak"),
    ],
)
def test_any_value_becomes_one_line_of_json(configured: Configure, value: object, shown: object) -> None:
    lines = configured()
    get_logger("ours").info("event", value=value)
    assert lines.only()["value"] == shown


@pytest.mark.parametrize("value", [2**70, "\ud800", {(1, 2): "a"}], ids=["long", "surrogate", "tuple"])
def test_a_value_that_json_cannot_hold_costs_neither_the_caller_nor_the_line(
    configured: Configure, value: object
) -> None:
    lines = configured()
    get_logger("ours").info("event", value=value)
    assert lines.only()["event"] == "event"


def test_warnings_are_log_lines(configured: Configure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        lines = configured()
        warnings.warn(f"{SECRET} is deprecated", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    line = lines.only()
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "DeprecationWarning: [email] is deprecated" in line["event"]


def test_configuring_again_replaces_what_was_before(configured: Configure) -> None:
    first, second = configured(), configured(service="other")
    get_logger("ours").info("event")
    logging.getLogger("library").warning("event")
    assert first.text == ""
    assert [line["service"] for line in second.all()] == ["other", "other"]


def test_the_console_is_for_people(configured: Configure) -> None:
    lines = configured(renderer="console")
    structlog.contextvars.bind_contextvars(request_id="abc")
    get_logger("ours").info("redis_away", guest=SECRET)
    logging.getLogger("library").warning("two")
    first, second = lines.text.splitlines()
    assert "redis_away" in first
    assert "guest=[email]" in first.replace("'", "")
    assert "request_id=abc" in first
    assert "two" in second
    assert "\x1b[" not in lines.text
    assert "service" not in lines.text


def test_on_the_console_nobody_forges_a_line(configured: Configure) -> None:
    lines = configured(renderer="console")
    get_logger("ours").info("asked\n2026-11-23 [info] forged", guest="\x1b[31mx\r\u2028")

    def fail() -> None:
        raise ValueError(f"{SECRET}\n2026-11-23 [info] forged")

    try:
        fail()
    except ValueError:
        get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed")
    assert SECRET not in lines.text
    assert not set("\x1b\r\u2028") & set(lines.text)
    assert not [line for line in lines.text.splitlines() if line.startswith(("2026-11-23", "ValueError"))]
    assert lines.text.count("ValueError: [email]") == 2


def test_a_field_of_the_callers_own_that_begins_with_an_underscore_is_redacted_too(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("event", _password="hunter22", **{SECRET: 1})
    assert lines.only()["_password"] == "[redacted]"
    assert lines.only()["[email]"] == 1


def test_lines_go_to_standard_output_unless_told_otherwise(
    configured: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(stream=None)
    structlog.get_logger("ours").info("event")
    logging.getLogger("library").warning("event")
    output, errors = capsys.readouterr()
    assert [json.loads(line)["event"] for line in output.splitlines()] == ["event", "event"]
    assert errors == ""


def test_a_stream_with_a_descriptor_is_written_past_its_buffer(configured: Configure) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as reader, os.fdopen(write_end, "w") as stream:
        stream.write("before\n")
        configured(stream=stream)
        get_logger("ours").info("event")
        os.set_blocking(read_end, False)
        before, line = reader.read().splitlines()
    assert before == "before"
    assert json.loads(line)["event"] == "event"


@pytest.mark.parametrize(
    ("renderer", "made"), [("json", '"event":"log_lines_dropped"'), ("console", "log_lines_dropped [")]
)
def test_dropped_lines_are_announced_as_others_are_written(configured: Configure, renderer: str, made: str) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stream:
        configured(stream=stream, renderer=renderer)
        writer = get_logger("ours").bind()._logger._write.__self__  # type: ignore[attr-defined]
        structlog.contextvars.bind_contextvars(request_id="of another")
        line = writer.announce(7).decode()
    assert made in line
    assert "warning" in line
    assert "of another" not in line
    if renderer == "json":
        assert json.loads(line)["lines"] == 7


def test_dropped_lines_are_counted_once_there_is_a_catalogue() -> None:
    def counted() -> float:
        return registry().get_sample_value("baliblissed_log_lines_dropped_total", {"reason": "queue_full"}) or 0

    catalogue()
    before = counted()
    count_dropped("queue_full", 3)
    assert counted() == before + 3


def test_a_time_is_utc_wherever_the_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "Asia/Makassar")
        time.tzset()
        assert log_chain.Stamp({})._time(1_700_000_000_000_005_999) == "2023-11-14T22:13:20.000005Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_count_that_fails_costs_the_writers_thread_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue().log_lines_dropped, "labels", None)
    count_dropped("queue_full", 3)


def test_a_new_set_up_writes_behind_what_the_old_one_has_still_to_write(configured: Configure) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stream:
        writers = []
        for _ in range(2):
            configured(stream=stream)
            writers.append(get_logger("ours").bind()._logger._write.__self__)  # type: ignore[attr-defined]
    assert writers[0] is writers[1]
