"""Knowledge that an OpenAPI document cannot hold: the form of cursors, and rules across fields and requests."""

from typing import Any

import orjson
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure

from app.api.dependencies import encode_cursor

IDS = st.integers(1, 2**63 - 1).map(encode_cursor)
SLUGS = st.from_regex("^[a-z0-9-]{1,80}$", fullmatch=True)
RANKS = st.floats(0, 1)
schemathesis.openapi.format("cursor", IDS | st.builds(encode_cursor, RANKS, SLUGS))

# Messages of 422, which requests with valid parts get.
RULES = {
    # A cursor is that of one list.
    "want the next_cursor of a page",
    "want a departure on or after the arrival",
}
KEY_REUSED = "This Idempotency-Key was used for other content."


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: "schemathesis.Case[Any]",
    response: schemathesis.Response,
) -> bool:
    """Drop the report that a valid request was refused if the reason is one of these rules alone."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    problem = orjson.loads(response.content)
    if problem.get("detail", "").startswith(KEY_REUSED):
        return False
    messages = {error["message"].removeprefix("Value error, ") for error in problem.get("errors", [])}
    return not messages or not messages <= RULES
