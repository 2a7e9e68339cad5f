"""Generated events: no log call raises, and no line shows what is private."""

import logging
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.monitoring.logging import get_logger
from app.monitoring.logs.line import MAX_LINE_BYTES
from tests.monitoring.conftest import Configure, Lines
from tests.monitoring.faulty import FAULTY_EXCEPTIONS, FAULTY_VALUES, triple

CANARIES = ("wayan@example.com", "sk-9f8e7d6c5b4a3210", "4111 1111 1111 1111")
Texts = st.sampled_from([*CANARIES, "8+" * 300, "%s", "\ud800", "password=", "\x1b[0m", "", "x" * 5_000]) | st.text(
    max_size=20
)


class Name(NamedTuple):
    """The name of a faulty value. hypothesis itself reads the values that it makes."""

    name: str


def made(value: Any) -> Any:
    """Return `value` with faulty values in place of their names."""
    if isinstance(value, Name):
        return FAULTY_VALUES[value.name]()
    if isinstance(value, dict):
        return {key: made(item) for key, item in value.items()}
    return type(value)(map(made, value)) if isinstance(value, list | tuple) else value


Faulty = st.sampled_from(list(map(Name, FAULTY_VALUES)))
Errors = st.sampled_from(["__notes__ that fail", "a cycle", "text of a syntax error in bytes", "__class__ that fails"])
Scalars = st.none() | st.booleans() | st.integers() | st.floats() | Texts | st.binary(max_size=10) | Faulty
Values = st.recursive(
    Scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(Texts | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)
Names = st.sampled_from(["value", "password", "client_ip", "user_id", "exception", "stack", "truncated", "timestamp"])
FUZZ = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def fuzzed(lines: Lines) -> list[dict[str, Any]]:
    found = lines.all()
    for text in lines.text.splitlines():
        assert len(text.encode()) < MAX_LINE_BYTES
        assert not any(canary in text for canary in CANARIES)
    return found


@FUZZ
@given(
    event=Values,
    arguments=st.lists(Values, max_size=3),
    fields=st.dictionaries(Names, Values, max_size=4),
    error=st.none() | Errors | Values,
)
def test_no_event_raises_or_shows_what_is_private(
    configured: Configure, event: Any, arguments: list[Any], fields: dict[str, Any], error: Any
) -> None:
    lines = configured()
    event, arguments, fields, error = made(event), made(arguments), made(fields), made(error)
    exc_info = FAULTY_EXCEPTIONS[error]() if type(error) is str and error in FAULTY_EXCEPTIONS else error
    get_logger("ours").warning(event, *arguments, exc_info=exc_info, **fields)
    logging.getLogger("library").warning(event, *arguments, None, exc_info=triple(ValueError(event)), extra=fields)
    assert [line["level"] for line in fuzzed(lines)] == ["warning", "warning"]
