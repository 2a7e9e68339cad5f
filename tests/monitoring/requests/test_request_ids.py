"""The caller's X-Request-ID in the service's own form, and the bound of what an expression for it may cost."""

import importlib
import re

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from app.monitoring import Observability
from app.monitoring.option_checks import UnwantedError
from app.monitoring.requests.layer import ObservingMiddleware
from app.monitoring.requests.matching import count_ways
from app.monitoring.requests.request_ids import MAX_LENGTH, MAX_WAYS, accepted, checked, compiled
from tests.middleware.wire import Wire

EDGE = compiled("edge:[A-Za-z0-9._~/+=@-]+")


@pytest.mark.parametrize("given", ["edge:a", "edge:2026-11-23/7f", "edge:" + "a" * (MAX_LENGTH - 5), "deadbeef"])
def test_an_id_of_the_configured_form_is_taken_over(given: str) -> None:
    assert accepted(given.encode(), EDGE) == given


@pytest.mark.parametrize(
    "given",
    [
        *("edge:", "edge:a ", "xedge:a", "edge:a\n", 'edge:"', "edge:é", "edge:" + "a" * (MAX_LENGTH - 4)),
        *("edge:wayan@example.com", "edge:0812-3456-7890", "edge:ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    ],
)
def test_another_and_a_private_id_are_not(given: str) -> None:
    assert accepted(given.encode(), EDGE) is None


def test_only_signs_that_need_no_escape_are_taken_over_whatever_the_form() -> None:
    everything = compiled(".*")
    taken = {chr(code) for code in range(256) if accepted(bytes([code]), everything)}
    assert taken == set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:/+=@-")


@pytest.mark.parametrize(
    ("expression", "ways"),
    [
        ("edge-[0-9a-f]{32}", 1),
        ("[a-z]+", 128),
        ("[a-z]*-[0-9]*", 129 * 129),
        ("[a-z]{2,4}-[0-9]{1,12}", 36),
        ("a|bc|d?", 4),
        ("(?:[0-9a-f]{4}-){3}[0-9a-f]?", 2),
        (r"[]a+*(|]\(\+\|(?P<n>x)(?P=n)(?#(a+)(?i:y)", 1),
        ("(?:[a-z]++-)++[0-9]++", 1),
        ("(?>[a-z]+)-(?>[0-9]+)", 128),
        ("a{}b{,}", 129),
        ("(a|b){3}", 8),
    ],
)
def test_the_ways_of_an_expression_are_counted(expression: str, ways: int) -> None:
    assert re.compile(expression)
    assert count_ways(expression, MAX_LENGTH) == ways


@pytest.mark.parametrize(
    "expression",
    [
        *("(a+)+", "(a*)*b", "(?:a|aa)+", "(a?){60}a{60}", "([a-z]+-?){1,30}x", "a*a*a*b", r"(\w+\s?)*", "(?>(a+)+b)"),
        *("((a+)+)++", "(?=(a+)+b)x", "(?:(?:a{1,9}){1,9}){1,9}", "(.*)(.*)(.*)", "(?x: a+ # ) \n)", "(?i:(a|a)+)"),
    ],
)
def test_an_expression_that_may_take_long_is_refused(expression: str) -> None:
    with pytest.raises(UnwantedError, match="may try very many ways"):
        checked(expression)


Atoms = st.sampled_from(["a", "[ab]", "b", r"\w", "ab"])
Expressions = st.recursive(
    Atoms,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "{2,}", "+?"])).map("(?:{0[0]}){0[1]}".format)
        | st.lists(inner, min_size=2, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(Expressions)
def test_the_count_is_never_below_the_ways_that_there_are(expression: str) -> None:
    """The ways to match some beginning of a text of six characters, counted by going through the parsed expression."""
    tree = importlib.import_module("re._parser").parse(expression)  # without types
    assert count_ways(expression, 6) >= len(endings(tree, "aaabab"))


def endings(tree: object, text: str) -> list[int]:
    """Return the length of each way in which the items of `tree` match a beginning of `text`."""
    ways = [0]
    for operation, argument in tree:  # type: ignore[attr-defined]
        kind, following = str(operation), []
        for start in ways:
            rest = text[start:]
            if kind in ("LITERAL", "IN", "ANY"):
                pattern = re.compile(re.escape(chr(argument)) if kind == "LITERAL" else r"\w")
                following += [start + 1] if pattern.match(rest) else []
            elif kind == "BRANCH":
                following += [start + end for branch in argument[1] for end in endings(branch, rest)]
            elif kind == "SUBPATTERN":
                following += [start + end for end in endings(argument[-1], rest)]
            else:
                least, most, body = argument
                following += [start + end for end in repeated(body, rest, least, min(int(most), len(rest) + least))]
        ways = following
    return ways


def repeated(body: object, text: str, least: int, most: int) -> list[int]:
    found, ways = ([0] if least == 0 else []), [0]
    for count in range(1, most + 1):
        ways = [start + end for start in ways for end in endings(body, text[start:]) if end]
        found += ways if count >= least else []
    return found


def test_an_accepted_expression_is_bounded() -> None:
    assert checked("[a-z]*[a-z]*x") == "[a-z]*[a-z]*x"
    assert count_ways("[a-z]*[a-z]*x", MAX_LENGTH) <= MAX_WAYS
    assert accepted(b"a" * MAX_LENGTH, compiled("[a-z]*[a-z]*x")) is None


async def test_the_form_holds_for_requests_of_the_instrumented_application() -> None:
    app = FastAPI()
    Observability("shop", tracing="none", request_id_pattern="shop-[0-9]{4}").instrument(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        for sent, kept in (("shop-1234", True), ("shop-12345", False), ("deadbeef", True), ("shop", False)):
            answer = await client.get("/nothing", headers={"X-Request-ID": sent})
            assert (answer.headers["x-request-id"] == sent) is kept, sent


async def test_the_form_holds_for_websockets() -> None:
    async def talk(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    for sent, kept in ((b"shop-1234", True), (b"shop-12345", False)):
        wire = Wire(type="websocket", headers=((b"x-request-id", sent),))
        await wire.run(ObservingMiddleware(talk, request_id_pattern="shop-[0-9]{4}"))
        ((_, taken),) = wire.sent[0]["headers"]
        assert (taken == sent) is kept
