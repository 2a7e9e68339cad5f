"""The collector masks the value of a sensitive key by its name, even if all keys are allowed."""

from pathlib import Path

import pytest

from tests.telemetry import dirty, otlp
from tests.telemetry.canaries import WORDS
from tests.telemetry.collector import gateway, store
from tests.telemetry.traffic import kept_id

KEYS = [
    "http.request.header.authorization",
    "http.request.header.cookie",
    "http.request.header.x-api-key",
    "user.email",
    "enduser.phone",
    "app.session.id",
    "db.password",
    "gen_ai.prompt",
    "gen_ai.input.messages",
    "gen_ai.event.content",
]


@pytest.fixture(scope="module")
def open_list(program: Path, tmp_path_factory: pytest.TempPathFactory) -> list[otlp.Span]:
    """Return the spans that a collector with `allow_all_keys` exports."""
    directory = tmp_path_factory.mktemp("walls")
    mistake = directory / "mistake.yaml"
    mistake.write_text("processors: {redaction: {allow_all_keys: true}}")
    with (
        store(program, directory / "store") as kept,
        gateway(program, directory / "gateway", mistake, to=kept) as running,
    ):
        otlp.send(running.endpoint, [dirty.span(kept_id(key), dirty.in_attribute(key), WORDS.planted) for key in KEYS])
        running.stop()
        kept.stop()
    return otlp.spans(directory / "store" / "traces.json")


@pytest.mark.parametrize("key", KEYS)
def test_a_private_key_that_is_listed_by_mistake_is_masked(open_list: list[otlp.Span], key: str) -> None:
    (found,) = [span for span in open_list if span.trace_id == kept_id(key)]
    assert found.attributes == {key: "****"}
