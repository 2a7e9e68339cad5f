"""Options come from arguments, then from the environment, then from defaults; a wrong one is named."""

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from app.monitoring import OptionArguments, Options, OptionsError
from app.monitoring.arguments import logging_arguments
from app.monitoring.redaction.indonesia import INDONESIA
from app.monitoring.traces.libraries import INSTRUMENTED


def test_an_argument_goes_before_the_environment_and_that_before_the_default() -> None:
    environment = {"PORT": "8100", "METRICS_PORT": "9100"}
    options = Options.read({"port": 8200}, environment)
    assert (options.port, options.metrics_port, options.keepalive) == (8200, 9100, 75)


def test_an_argument_that_is_none_and_an_empty_variable_count_as_not_given() -> None:
    assert Options.read({"service": None}, {"OTEL_SERVICE_NAME": "shop", "PORT": ""}) == Options(service="shop")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PORT", "http", r"PORT='http': want a number from 1 to 65535"),
        ("PORT", "70000", r"PORT='70000': want a number from 1 to 65535"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", r"OTEL_TRACES_SAMPLER_ARG='1.5': want a number from 0 to 1"),
        ("OTEL_TRACES_EXPORTER", "zipkin", r"OTEL_TRACES_EXPORTER='zipkin': want one of otlp, console, none"),
        (
            "REDACTION_PACKS",
            "indonesia,atlantis",
            r"REDACTION_PACKS='indonesia,atlantis': 'atlantis': want indonesia, world, or",
        ),
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "/a,(", r"EXCLUDED_URLS='/a,\(': '\(': missing \), .*: want regular"),
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "/a,", r"EXCLUDED_URLS='/a,': an empty expression matches every URL"),
        ("REDACTED_KEYS", "room,--", r"REDACTED_KEYS='room,--': '--': want the name of a field"),
        (
            "ALLOWED_METRICS_IPS",
            "10.0.0.0/8,here",
            r"ALLOWED_METRICS_IPS='10.0.0.0/8,here': want addresses or networks such as 10.0.0.0/8, .*: 'here'",
        ),
        ("LOG_LEVEL", "LOUD", r"LOG_LEVEL='LOUD': want 'DEBUG', 'INFO', .*: 'LOUD' is no level"),
        ("METRICS_NAMESPACE", "my-shop", r"METRICS_NAMESPACE='my-shop': want letters, digits and underscores"),
        ("OTEL_SDK_DISABLED", "perhaps", r"OTEL_SDK_DISABLED='perhaps': want true or false"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_wanted(variable: str, value: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options.read({}, {variable: value})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("service", " ", "want a name"),
        ("version", 2, "want text"),
        ("namespace", "my-shop", "want letters, digits and underscores, and no digit first"),
        ("host", None, "want text"),
        ("port", 0, "want a number from 1 to 65535"),
        ("port", "x", "want a number from 1 to 65535"),
        ("port", True, "want a number from 1 to 65535"),
        ("port", 80.5, "want a number from 1 to 65535"),
        ("workers", 0, "want a number from 1 to 256"),
        ("max_requests", -1, "want a number from 0 to 1000000000"),
        ("sample_ratio", 3, "want a number from 0 to 1"),
        ("sample_ratio", float("nan"), "want a number from 0 to 1"),
        ("metrics_directory", 7, "want the path of a directory"),
        ("metrics_directory", "", "want the path of a directory"),
        ("allowed_metrics_ips", ("10.0.0.0/8", 7), "want addresses or networks such as 10.0.0.0/8"),
        ("allowed_metrics_ips", 7, "want addresses or networks such as 10.0.0.0/8"),
        ("max_in_flight", -1, "want a number from 0 to 1000000"),
        ("queue_timeout", 0, "want a number from 0.01 to 600"),
        ("overload_exempt_paths", ("/health", "metrics"), "'metrics': want a path such as /health"),
        ("overload_exempt_paths", ("/",), "'/': want a path such as /health"),
        ("overload_exempt_paths", 7, "want paths such as /health, separated by commas or as a tuple"),
        ("log_level", "LOUD", "want 'DEBUG', 'INFO'"),
        ("log_format", "xml", "want one of json, console"),
        ("tracing_disabled", 1, "want true or false"),
        ("traces_exporter", "jaeger", "want one of otlp, console, none"),
        ("instrument_libraries", 7, "want a tuple of any of asyncpg, httpx"),
        ("request_id_pattern", "(", "missing ), unterminated subpattern at position 0: want a regular expression"),
        ("request_id_pattern", "", "want a regular expression for a whole id"),
        ("request_id_pattern", "([a-z]+-?)+", "may try very many ways to match an id: want at most two open rep"),
        ("request_id_pattern", "(?x)[a-z] +", "may try very many ways to match an id"),
        ("excluded_urls", "(", "'(': missing ), unterminated subpattern at position 0: want regular expressions"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_is_wanted(name: str, value: object, wanted: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"{name}={value!r}: {wanted}")):
        Options(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "converted"),
    [
        ("port", "8100", 8100),
        ("sample_ratio", 1, 1.0),
        ("metrics_directory", "/run/metrics", Path("/run/metrics")),
        ("allowed_metrics_ips", ("10.0.0.0/8", ip_network("::1")), (ip_network("10.0.0.0/8"), ip_network("::1"))),
        ("allowed_metrics_ips", "127.0.0.1, 10.0.0.0/8", (ip_network("127.0.0.1"), ip_network("10.0.0.0/8"))),
        ("allowed_metrics_ips", [], ()),
        ("log_level", "info, app=debug", "INFO,app=DEBUG"),
        ("overload_exempt_paths", ["/live/", "/metrics"], ("/live", "/metrics")),
        ("tracing_disabled", "TRUE", True),
        ("instrument_libraries", ["redis"], ("redis",)),
    ],
)
def test_an_argument_is_converted_to_the_options_type(name: str, value: object, converted: object) -> None:
    found = getattr(Options.read({name: value}, {}), name)
    assert (found, type(found)) == (converted, type(converted))


def test_a_wrong_endpoint_is_not_repeated() -> None:
    with pytest.raises(OptionsError, match=r"^otlp_endpoint: want text$"):
        Options(otlp_endpoint=b"http://user:secret@collector")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"redaction_packs": ("atlantis",)},
            r"redaction_packs=\('atlantis',\): 'atlantis': want indonesia, world, or a Redact",
        ),
        ({"redaction_packs": "indonesia"}, "redaction_packs='indonesia': want a tuple"),
        ({"redaction_packs": ("indonesia", INDONESIA)}, "want each pack once"),
        ({"redacted_keys": "room"}, "redacted_keys='room': want a tuple"),
        ({"redacted_keys": ("room", 7)}, r"redacted_keys=\('room', 7\): 7: want the name of a field"),
    ],
)
def test_wrong_rules_of_redaction_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options.read(given, {})


@pytest.mark.parametrize(
    ("given", "environment", "packs", "keys"),
    [
        ({}, {}, ["indonesia", "world"], []),
        ({}, {"REDACTION_PACKS": "none", "REDACTED_KEYS": "room, table no"}, [], ["room", "table no"]),
        ({"redaction_packs": ()}, {"REDACTION_PACKS": "indonesia"}, [], []),
        ({"redacted_keys": ["room"]}, {"REDACTED_KEYS": "table"}, ["indonesia", "world"], ["room"]),
    ],
)
def test_all_shipped_packs_are_on_unless_others_are_named(
    given: dict[str, object], environment: dict[str, str], packs: list[str], keys: list[str]
) -> None:
    logging = logging_arguments(Options.read(given, environment))
    assert (logging["redaction_packs"], logging["redacted_keys"]) == (packs, keys)
    assert json.loads(json.dumps(logging)) == logging


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("prot", "; the closest is port"),
        ("timeout", "; the closest are otlp_timeout, kill_timeout, body_timeout"),
        ("bind", ""),
    ],
)
def test_an_unknown_option_is_refused_with_the_closest_names(name: str, hint: str) -> None:
    with pytest.raises(OptionsError, match=f"^{name}=1: no such option of Observability{hint}$"):
        Options.read({name: 1}, {})


def test_every_option_has_a_variable_of_its_own() -> None:
    variables = [option.metadata["variable"] for option in fields(Options)]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize(
    ("environment", "renderer", "exporter"),
    [
        ({}, "json", "none"),
        ({"ENVIRONMENT": "development"}, "console", "none"),
        ({"ENVIRONMENT": "development", "LOG_FORMAT": "json"}, "json", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "json", "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_TRACES_EXPORTER": "none"}, "json", "none"),
    ],
)
def test_what_is_not_set_follows_from_the_rest(environment: dict[str, str], renderer: str, exporter: str) -> None:
    options = Options.read({}, environment)
    assert (logging_arguments(options)["renderer"], options.exporter) == (renderer, exporter)


def test_an_endpoint_of_traces_alone_turns_the_exporter_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")
    assert Options().exporter == "otlp"
    assert Options(traces_exporter="none").exporter == "none"


def test_two_services_of_one_user_have_directories_of_their_own() -> None:
    first, second = (Options.read({"service": "shop", "port": port}, {}).directory for port in (8000, 8001))
    assert first != second
    assert Options.read({"service": "shop"}, {"PROMETHEUS_MULTIPROC_DIR": "/run/metrics"}).directory == Path(
        "/run/metrics"
    )


@pytest.mark.parametrize(("host", "bind"), [("0.0.0.0", "0.0.0.0:8000"), ("::1", "[::1]:8000")])  # noqa: S104
def test_an_address_of_ipv6_is_bound_in_brackets(host: str, bind: str) -> None:
    assert Options.read({"host": host}, {}).bind == bind


def test_networks_are_read_with_commas_between() -> None:
    options = Options.read({}, {"ALLOWED_METRICS_IPS": "10.0.0.0/8, 127.0.0.1"})
    assert options.allowed_metrics_ips == (ip_network("10.0.0.0/8"), ip_network("127.0.0.1"))


@pytest.mark.parametrize(("text", "disabled"), [("true", True), ("TRUE", True), ("false", False), ("0", False)])
def test_the_sdk_can_be_switched_off(text: str, disabled: bool) -> None:  # noqa: FBT001
    assert Options.read({}, {"OTEL_SDK_DISABLED": text}).tracing_disabled is disabled


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        ({"tracing": "spans"}, {}, "tracing='spans': want one of layer, instrumentation, none"),
        ({}, {"TRACING": "spans"}, "TRACING='spans': want one of layer, instrumentation, none"),
        (
            {"excluded_urls": "("},
            {},
            r"excluded_urls='\(': '\(': missing \), .*: want regular",
        ),
        ({"instrument_libraries": "redis"}, {}, "instrument_libraries='redis': want a tuple of any of asyncpg, httpx"),
        (
            {},
            {"INSTRUMENT_LIBRARIES": "redis,mysql"},
            "INSTRUMENT_LIBRARIES='redis,mysql': want a tuple of any of",
        ),
    ],
)
def test_a_wrong_choice_of_spans_is_refused(
    given: dict[str, object], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(OptionsError, match=message):
        Options.read(given, environment)


def test_the_libraries_are_read_with_commas_between() -> None:
    assert Options.read({}, {"INSTRUMENT_LIBRARIES": "redis, httpx"}).instrument_libraries == ("redis", "httpx")
    assert Options.read({}, {"INSTRUMENT_LIBRARIES": "none"}).instrument_libraries == ()
    assert set(Options().instrument_libraries) == set(INSTRUMENTED)


@pytest.mark.parametrize(
    ("environment", "traced"),
    [
        ({}, True),
        ({"TRACING": "instrumentation"}, True),
        ({"TRACING": "none"}, False),
        ({"OTEL_SDK_DISABLED": "1"}, False),
    ],
)
def test_there_are_spans_unless_tracing_is_none_or_the_sdk_is_switched_off(
    environment: dict[str, str],
    traced: bool,  # noqa: FBT001
) -> None:
    assert Options.read({}, environment).traced is traced


def _alternatives(hint: Any) -> set[Any]:
    """Return the members of a union, or the type itself; those of the items, each as `(type,)`, for a collection."""
    if get_origin(hint) in {Union, UnionType}:
        return set().union(*map(_alternatives, get_args(hint)))
    if get_origin(hint) in {tuple, Iterable}:
        return {(one,) for one in _alternatives(get_args(hint)[0])}
    return {hint}


def test_each_option_is_an_argument_with_its_types_or_none() -> None:
    of_fields, of_arguments = get_type_hints(Options), get_type_hints(OptionArguments)
    assert [field.name for field in fields(Options)] == ["service", *of_arguments]
    for name, hint in of_arguments.items():
        assert _alternatives(of_fields[name]) | {type(None)} <= _alternatives(hint), name
