"""No log call raises, whatever it is given, and each writes one line in bounded time."""

import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from structlog.processors import CallsiteParameter, CallsiteParameterAdder

from app.monitoring import redaction, tracebacks
from app.monitoring.logging import get_logger
from app.monitoring.logs import chain as log_chain
from app.monitoring.redaction.budget import MAX_CHARACTERS
from app.monitoring.tracebacks import MAX_EXCEPTIONS, type_name
from tests.monitoring.conftest import Configure
from tests.monitoring.faulty import FAULTY_EXCEPTIONS, FAULTY_VALUES, Failing, chain, group, of_recursion, triple

SECRET = "wayan@example.com"
RENDERERS = ["json", "console"]
# Both ways into the chain, of an event with fields and of an exception.
LOGS: dict[str, Callable[..., Any]] = {
    "structlog": lambda **fields: get_logger("ours").error("failed", **fields),
    "logging": lambda exc_info=None, **fields: logging.getLogger("library").error(
        "failed", exc_info=triple(exc_info), extra=fields
    ),
}
Log = Callable[..., Any]
both_logs = pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)


def raised(error: Any) -> BaseException:
    """Return `error` as it is caught."""
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize("make", FAULTY_EXCEPTIONS.values(), ids=FAULTY_EXCEPTIONS)
@both_logs
def test_an_exception_that_cannot_be_formatted_is_a_line_with_its_type(
    configured: Configure, log: Log, make: Callable[[], BaseException]
) -> None:
    lines = configured()
    error = raised(make())
    log(exc_info=error, room=7)
    kind = type(error)
    line = lines.only()
    assert (line["event"], line["level"], line["room"]) == ("failed", "error", 7)
    assert "log_fault" not in line
    assert type_name(kind) in line["exception"]
    assert "test_log_faults.py" in line["exception"] or kind is RecursionError


@both_logs
def test_the_frames_of_an_exception_that_cannot_be_formatted_are_shown(configured: Configure, log: Log) -> None:
    lines = configured()
    error = FAULTY_EXCEPTIONS["__notes__ that fail"]()
    error.__cause__ = raised(ValueError("the cause"))
    log(exc_info=raised(error))
    exception = lines.only()["exception"]
    first, second = exception.split("\nThe above exception was the direct cause of the following exception:\n\n")
    assert first.startswith("Traceback (most recent call last):\n")
    assert first.endswith("ValueError: the cause\n")
    assert "in raised\n    raise error" in second
    assert second.endswith("tests.monitoring.faulty.NotesError: x")


class Untrue:
    def __bool__(self) -> bool:
        raise RuntimeError


def test_exc_info_may_be_anything(configured: Configure) -> None:
    lines = configured()
    error = ValueError("x")
    given_values: list[Any] = [error, (ValueError, error, None), (ValueError, None, None), (None, None, None), ()]
    for value in [*given_values, None, False, 0, "", Failing(), Untrue(), ("a", "b", "c"), [1], ValueError]:
        get_logger("ours").error("failed", exc_info=value)
    shown = [line.get("exception") for line in lines.all()]
    assert shown == ["ValueError: x", "ValueError: x", "ValueError"] + [None] * (len(shown) - 3)
    assert {line["event"] for line in lines.all()} == {"failed"}


def test_any_true_exc_info_is_the_exception_being_handled(configured: Configure) -> None:
    lines = configured()
    try:
        int("x")
    except ValueError:
        for value in (True, 1, "yes", Failing(), Untrue(), (None, None, None)):
            get_logger("ours").error("failed", exc_info=value)
            get_logger("ours").exception("failed")
    assert all(line["exception"].startswith("Traceback") for line in lines.all())
    assert len(lines.all()) == 12


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("make", FAULTY_VALUES.values(), ids=FAULTY_VALUES)
def test_a_value_that_cannot_be_read_costs_neither_the_caller_nor_the_line(
    configured: Configure, make: Callable[[], Any], renderer: str
) -> None:
    lines = configured(renderer=renderer)
    logger, library = get_logger("ours"), logging.getLogger("library")
    for key in ("value", "password", "client_ip", "user_id", "trace_id", "prompt_tokens", "exception", "logger"):
        logger.error("failed", **{key: make()})
        library.error("failed", extra={key: make()})
    for argument in ("%s", "%r", "%(a)s", "%d"):
        logger.error(argument, make())
        library.error(f"{argument} %s", make(), 1)  # of a single argument, a record reads attributes itself
    logger.error(make())
    library.error(make())
    logger.bind(value=make()).error("failed", stack_info=make())
    assert len([line for line in lines.text.splitlines() if line.startswith(('{"timestamp', "20"))]) == 27
    assert "log_fault=" not in lines.text
    assert '"log_fault"' not in lines.text


@pytest.mark.parametrize("renderer", RENDERERS)
def test_arguments_of_structlog_that_do_not_fit_are_written_beside_their_message(
    configured: Configure, renderer: str
) -> None:
    lines = configured(renderer=renderer)
    logger = get_logger("ours")
    logger.info("%d guests of %s", SECRET)  # noqa: PLE1206
    logger.log(logging.INFO, "%d guests", SECRET)
    logger.warning("%(a)s", {"b": 1})
    assert len(lines.text.splitlines()) == 3
    assert SECRET not in lines.text
    if renderer == "json":
        first, second, third = lines.all()
        assert (first["event"], first["arguments"], first["error"]) == ("%d guests of %s", ["[email]"], "TypeError")
        assert (second["event"], second["level"]) == ("%d guests", "info")
        assert (third["arguments"], third["error"]) == ([{"b": 1}], "KeyError")


def test_fields_of_the_caller_stay_where_arguments_do_not_fit(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("%d guests", "two", error="timeout")
    logging.getLogger("library").warning("%d guests of %s", "two", extra={"error": "timeout", "event": "other"})
    assert [(line["event"], line["arguments"], line["error"]) for line in lines.all()] == [
        ("%d guests", ["two"], "timeout"),
        ("%d guests of %s", ["two"], "timeout"),
    ]


def test_a_field_may_have_the_name_of_a_parameter_of_structlog(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("called", method_name="charge", logger="theirs", base=1)
    (line,) = lines.all()
    assert (line["event"], line["method_name"], line["logger"], line["base"]) == ("called", "charge", "ours", 1)
    assert "log_fault" not in line


def test_arguments_that_fit_are_formatted_as_structlog_does(configured: Configure) -> None:
    lines = configured()
    logger = get_logger("ours")
    logger.info("%d of %s", 1, "two", room=7)
    logger.info("%(city)s", {"city": "Ubud"})
    logger.log(logging.WARNING, "%s", ["a"])
    logger.debug("%d", "below the level")
    logger.info("100%")
    assert [line["event"] for line in lines.all()] == ["1 of two", "Ubud", "['a']", "100%"]
    assert lines.all()[0]["room"] == 7


async def test_calls_of_other_threads_do_not_raise_either(configured: Configure) -> None:
    lines = configured()
    await get_logger("ours").ainfo("%d", "x")
    await get_logger("ours").aerror("failed", value=Failing())
    await get_logger("ours").alog(logging.INFO, "%d of %d", 1)
    assert [line["event"] for line in lines.all()] == ["%d", "failed", "%d of %d"]


def broken(_logger: Any, _method: str, _event: Any) -> Any:
    raise LookupError(SECRET)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_an_added_processor_that_raises_leaves_one_line_that_names_the_fault(
    configured: Configure, renderer: str
) -> None:
    lines = configured(renderer=renderer)
    structlog.configure(processors=[broken, *structlog.get_config()["processors"]])
    get_logger("ours").bind(room=7).warning(f"asked by {SECRET}", password="hunter22")
    (line,) = lines.text.splitlines()
    assert SECRET not in line
    assert "hunter22" not in line
    if renderer == "json":
        found = json.loads(line)
        assert (found["event"], found["log_fault"], found["room"]) == ("asked by [email]", "LookupError", 7)
        assert (found["level"], found["logger"], found["service"]) == ("warning", "ours", "bali")


@pytest.mark.parametrize("place", ["_trace_context", "_tracebacks", "_redact"])
@both_logs
def test_a_processor_of_the_chain_that_raises_leaves_one_line(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, log: Log, place: str
) -> None:
    calls = []
    processor = getattr(log_chain, place)

    def not_at_first(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise LookupError(SECRET)
        return processor(*arguments)

    monkeypatch.setattr(log_chain, place, not_at_first)
    lines = configured()
    log(exc_info=ValueError(SECRET), guest=SECRET)
    line = lines.only()
    assert (line["event"], line["log_fault"], line["level"]) == ("failed", "LookupError", "error")
    assert SECRET not in lines.text
    assert "ValueError" in line["exception"]


@both_logs
def test_a_chain_that_always_raises_still_writes_a_line(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(log_chain, "_trace_context", broken)
    lines = configured()
    log(guest=SECRET)
    line = lines.only()
    assert (line["event"], line["log_fault"], line["level"]) == ("log_event_not_readable", "LookupError", "error")
    assert line["logger"] in ("ours", "library")
    assert SECRET not in lines.text


@both_logs
def test_an_interrupt_in_the_middle_of_a_log_call_is_not_caught(configured: Configure, log: Log) -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    configured()
    with pytest.raises(KeyboardInterrupt):
        log(value=Interrupted())


def test_callsites_and_stacks_are_those_of_the_caller(configured: Configure) -> None:
    lines = configured()
    adder = CallsiteParameterAdder({CallsiteParameter.FUNC_NAME, CallsiteParameter.MODULE})
    structlog.configure(processors=[adder, *structlog.get_config()["processors"]])
    get_logger("ours").info("%s", "event", stack_info=True)
    get_logger("ours").log(logging.INFO, "event", stack_info=True)
    for line in lines.all():
        assert (line["func_name"], line["module"]) == (sys._getframe().f_code.co_name, "test_log_faults")
        assert line["stack"].splitlines()[-2].endswith("in test_callsites_and_stacks_are_those_of_the_caller")


class Counting(deque[int]):
    """A collection that counts the items read of it."""

    read = 0

    def __iter__(self) -> Any:
        for item in super().__iter__():
            Counting.read += 1
            yield item


def test_of_a_large_collection_no_more_is_read_than_a_line_can_hold(configured: Configure) -> None:
    lines = configured()
    values = Counting(range(300_000))
    Counting.read = 0
    get_logger("ours").info("event", value=values)
    get_logger("ours").info("event %s", values)
    logging.getLogger("library").info("event %s %s", values, "end")
    get_logger("ours").info("event", client_ip=[[values] * 1_000] * 1_000)
    assert Counting.read <= 10_000
    assert [line["level"] for line in lines.all()] == ["info"] * 4
    assert lines.all()[2]["event"].startswith("event [0, 1, 2")


@both_logs
def test_of_very_many_fields_the_first_are_written_and_the_rest_is_counted(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    lines = configured()
    redacted = []
    redact_event = redaction.redact_event

    def noting(event: dict[str, Any], **options: Any) -> Any:
        redacted.append(len(event))
        return redact_event(event, **options)

    monkeypatch.setattr(log_chain, "redact_event", noting)
    log(exc_info=ValueError("x"), **{f"k{number}": number for number in range(100_000)})
    assert redacted[0] < 300
    line = lines.only()
    assert (line["event"], line["exception"], line["k0"]) == ("failed", "ValueError: x", 0)
    assert line["[cut]"].endswith(" fields")
    assert 99_700 < int(line["[cut]"].split()[0]) < 99_900


def test_large_values_of_every_kind_are_a_line_that_says_what_is_left_out(configured: Configure) -> None:
    lines = configured(renderer="console")
    numbers = range(300_000)
    for value in (set(numbers), dict.fromkeys(numbers), {"a": list(numbers)}, dict.fromkeys(numbers).keys()):
        get_logger("ours").info("event", value=value)
    for line in lines.text.splitlines():
        assert "[cut" in line or "'[cut]': " in line
        assert len(line) < 30_000


def test_a_long_line_of_texts_is_read_within_bounds_and_keeps_event_and_exception(configured: Configure) -> None:
    lines = configured(renderer="console")
    texts = {f"text_{number}": f"{number} " + "x y " * 4_000 for number in range(20)}
    get_logger("ours").error("the event", exc_info=ValueError("the error"), **texts)
    assert "the event" in lines.text
    assert "ValueError: the error" in lines.text
    assert lines.text.count("x y") <= MAX_CHARACTERS / 4
    assert "[cut 16" in lines.text


@pytest.mark.parametrize("make", [lambda: chain(20_000), lambda: group(20_000, 0), of_recursion])
def test_of_a_huge_exception_a_bounded_part_is_formatted(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException]
) -> None:
    formatted = []
    final = tracebacks._final

    def noting(error: BaseException) -> str:
        formatted.append(error)
        return final(error)

    monkeypatch.setattr(tracebacks, "_final", noting)
    monkeypatch.setattr(tracebacks, "TracebackException", None)  # reads all of it
    error = make()
    text = tracebacks.format_exception((type(error), error, error.__traceback__))
    assert 1 <= len(formatted) <= MAX_EXCEPTIONS
    assert len(text) < 60_000
    assert "[cut" in text
    assert text.splitlines()[-1].strip()


def test_an_ordinary_exception_is_formatted_as_python_does() -> None:
    import traceback  # noqa: PLC0415

    try:
        try:
            int("x")
        except ValueError as error:
            error.add_note("a note")
            raise ExceptionGroup("several", [LookupError("a"), error]) from error
    except ExceptionGroup as caught:
        found = caught
    expected = "".join(traceback.format_exception(found)).removesuffix("\n")
    assert tracebacks.format_exception((type(found), found, found.__traceback__)) == expected
