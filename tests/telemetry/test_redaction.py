"""Private values behind the collector: none, with the application's redaction before it and without."""

import pytest

from app.monitoring.redaction import redact_text
from tests.alerts.rules import load
from tests.telemetry import otlp
from tests.telemetry.canaries import (
    CANARIES,
    CLIENTS,
    FORMS,
    KNOWN_TO_THE_APPLICATION,
    ORDINARY,
    WORDS,
    Canary,
)
from tests.telemetry.collector import SHIPPED
from tests.telemetry.dirty import OUT_OF_REACH, REMOVED, SEARCHED
from tests.telemetry.traffic import ASKED_WITH, Observed, kept_id

# Attributes that the instrumentations send and the collector drops on purpose.
LEFT_OUT = {
    "client.port",
    "db.user",
    "http.host",
    "http.request.method_original",
    "http.server_name",
    "http.user_agent",
    "net.peer.ip",
    "network.peer.address",
    "network.peer.port",
    "url.query",
    "user_agent.original",
}


def the_span(observed: Observed, label: str) -> otlp.Span:
    """Return the only span of the trace that was sent under `label`."""
    (found,) = observed.trace(kept_id(label))
    return found


def named(canary: Canary) -> str:
    """Return the canary's name for the test id."""
    return canary.name


@pytest.mark.parametrize("canary", CANARIES, ids=named)
@pytest.mark.parametrize("place", ASKED_WITH)
def test_what_a_client_sends_to_the_service_is_not_in_the_trace(observed: Observed, place: str, canary: Canary) -> None:
    trace = observed.trace(kept_id(f"{canary.name} in {place}"))
    assert otlp.SERVER in {span.kind for span in trace}, "the request left no trace, so nothing was proved"
    assert not [span for span in trace if canary.is_in(span.text)]


@pytest.mark.parametrize("canary", CANARIES, ids=named)
@pytest.mark.parametrize("place", SEARCHED)
def test_what_a_service_does_not_redact_the_collector_masks(observed: Observed, place: str, canary: Canary) -> None:
    (sent,) = [span for span in observed.received if span.trace_id == kept_id(f"{canary.name} as {place}")]
    assert canary.is_in(sent.text)
    left = the_span(observed, f"{canary.name} as {place}")
    assert not canary.is_in(left.text)
    assert "****" in left.text


@pytest.mark.parametrize("canary", [*CANARIES, WORDS], ids=named)
@pytest.mark.parametrize("place", REMOVED)
def test_what_nobody_needs_the_collector_takes_out_whatever_it_says(
    observed: Observed, place: str, canary: Canary
) -> None:
    (sent,) = [span for span in observed.received if span.trace_id == kept_id(f"{canary.name} as {place}")]
    assert canary.is_in(sent.text)
    assert not canary.is_in(the_span(observed, f"{canary.name} as {place}").text)


@pytest.mark.xfail(strict=True, reason="no processor of v0.145 reaches the attributes of links; the service sends none")
@pytest.mark.parametrize("place", OUT_OF_REACH)
def test_what_is_out_of_the_collectors_reach(observed: Observed, place: str) -> None:
    assert not WORDS.is_in(the_span(observed, f"{WORDS.name} as {place}").text)


def test_the_service_itself_sends_no_links(observed: Observed) -> None:
    ours = [span for span in observed.received if span.resource["service.name"] != "dirty"]
    assert ours
    assert not [span for span in ours if '"links"' in span.text]


@pytest.mark.parametrize("canary", CANARIES, ids=named)
def test_no_private_value_is_anywhere_in_what_left(observed: Observed, canary: Canary) -> None:
    out_of_reach = {kept_id(f"{canary.name} as {place}") for place in OUT_OF_REACH}
    assert not [span for span in observed.spans if canary.is_in(span.text) and span.trace_id not in out_of_reach]


@pytest.mark.parametrize("canary", CANARIES, ids=named)
def test_no_private_value_is_in_span_metrics_or_in_the_collectors_own_log(observed: Observed, canary: Canary) -> None:
    assert "traces.span.metrics.calls" in observed.besides
    assert "Everything is ready" in observed.besides
    assert not canary.is_in(observed.besides)


@pytest.mark.parametrize("text", FORMS)
def test_private_values_are_masked_in_the_forms_in_which_they_are_met(observed: Observed, text: str) -> None:
    assert "****" in the_span(observed, text).attributes["url.path"]


@pytest.mark.parametrize("text", KNOWN_TO_THE_APPLICATION)
def test_what_the_services_own_redaction_replaces_the_collector_masks_too(observed: Observed, text: str) -> None:
    assert redact_text(text) != text
    assert the_span(observed, text).attributes["url.path"] != text


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_values_are_not_touched(observed: Observed, text: str) -> None:
    assert the_span(observed, text).attributes == {"url.path": text}


def test_whatever_the_service_sends_is_listed_or_left_out_on_purpose(observed: Observed) -> None:
    listed = set(load(SHIPPED)["processors"]["redaction"]["allowed_keys"])
    ours = [span for span in observed.received if span.resource["service.name"] != "dirty"]
    sent = {key for span in ours for key in span.keys}
    assert sent - listed <= LEFT_OUT
    assert {key for span in observed.spans for key in span.keys} <= listed


@pytest.mark.parametrize(("address", "known"), CLIENTS.items())
def test_a_client_is_known_by_its_network_only(observed: Observed, address: str, known: str | None) -> None:
    assert the_span(observed, f"client {address}").attributes.get("client.address") == known


def test_no_address_of_a_client_of_the_service_leaves(observed: Observed) -> None:
    ours = [span for span in observed.spans if span.kind == otlp.SERVER and span.resource["service.name"] != "dirty"]
    assert ours
    assert {span.attributes.get("client.address", "127.0.0.0/24") for span in ours} == {"127.0.0.0/24"}
