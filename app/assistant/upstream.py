"""A client for any server with OpenAI's chat-completions API."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, BeforeValidator, Field

from app.metrics import Metrics, UpstreamName, UpstreamOutcome
from app.metrics import metrics as agency_metrics

CONNECT_TIMEOUT = 2.0
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500
MAX_TOKENS = 2**31
NAME: UpstreamName = "ai"

_tracer = trace.get_tracer("app.assistant")


class _Failure(Exception):  # noqa: N818 -- its subclasses say what it was
    """The upstream gave no completion. `status` is that of its response, None without one."""

    outcome: UpstreamOutcome

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class UpstreamError(_Failure):
    """The upstream failed: it could not be reached, or answered 5xx, 429 or nonsense."""

    def __init__(self, message: str, status: int | None = None, *, outcome: UpstreamOutcome = "invalid_answer") -> None:
        super().__init__(message, status)
        self.outcome = outcome


class UpstreamTimeout(UpstreamError):  # noqa: N818 -- reads as what happened
    """The upstream did not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outcome="timeout")


class UpstreamRejected(_Failure):
    """The upstream is well and refused this request (4xx): a wrong key, model or message."""

    outcome = "rejected"


@dataclass(frozen=True)
class Completion:
    """An answer and what it cost, as the upstream reports it; tokens are 0 where it does not."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


_Tokens = Annotated[int, BeforeValidator(lambda count: 0 if count is None else count), Field(ge=0, le=MAX_TOKENS)]


class _Usage(BaseModel):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


class _Answer(BaseModel):
    """The fields of a chat completion that are read; others are ignored."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None

    def completion(self) -> Completion:
        usage = self.usage or _Usage()
        return Completion(self.choices[0].message.content, usage.prompt_tokens, usage.completion_tokens)


class Upstream:
    """Chat completions at `base_url` (such as https://host/v1) with `model`.

    Each one is recorded in `metrics`, by default those of this process.
    """

    def __init__(
        self, base_url: str, *, model: str, key: str | None, timeout: float, metrics: Metrics | None = None
    ) -> None:
        metrics = metrics or agency_metrics()
        self._duration = metrics.upstream_request_duration.labels(NAME)
        self._requests = {
            outcome: metrics.upstream_requests.labels(NAME, outcome) for outcome in get_args(UpstreamOutcome)
        }
        self.model = model
        self.timeout = timeout
        """Seconds for one answer as a whole."""
        url = urlsplit(base_url)
        # The attributes name OpenAI's API, whichever server implements it.
        self._attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
        )

    async def complete(self, messages: list[dict[str, str]], *, json: bool = False) -> Completion:
        """Request a completion of `messages`; `json` asks for a JSON object. Raises UpstreamError or UpstreamRejected.

        The span records the model, the token counts and the outcome by the semantic conventions, never message text.
        """
        with _tracer.start_as_current_span(
            f"chat {self.model}", kind=SpanKind.CLIENT, attributes=self._attributes, record_exception=False
        ) as span:
            try:
                with self._counted():
                    completion = await self._ask(messages, json=json)
            except _Failure as error:
                span.set_attribute("error.type", str(error.status or type(error).__name__))
                raise
            span.set_attribute("gen_ai.usage.input_tokens", completion.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", completion.completion_tokens)
            return completion

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the request by how it ends, and time it unless it was cancelled."""
        started = time.perf_counter()
        outcome: UpstreamOutcome = "error"
        try:
            yield
            outcome = "success"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except _Failure as error:
            outcome = error.outcome
            raise
        finally:
            self._requests[outcome].inc()
            if outcome != "cancelled":
                self._duration.observe(time.perf_counter() - started)

    async def _ask(self, messages: list[dict[str, str]], *, json: bool) -> Completion:
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if json:
            body["response_format"] = {"type": "json_object"}
        try:
            # httpx's own time-outs start again with each piece that arrives.
            async with asyncio.timeout(self.timeout):
                response = await self._client.post("/chat/completions", json=body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise UpstreamTimeout(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise UpstreamError(type(error).__name__, outcome="unreachable") from error
        if response.status_code >= SERVER_ERROR or response.status_code == TOO_MANY_REQUESTS:
            outcome: UpstreamOutcome = "server_error" if response.status_code >= SERVER_ERROR else "rate_limited"
            raise UpstreamError(f"status {response.status_code}", response.status_code, outcome=outcome)
        if not response.is_success:
            raise UpstreamRejected(f"status {response.status_code}", response.status_code)
        return _read(response)

    async def ping(self) -> None:
        """Return if the server answers, with any status; raise UpstreamError if not."""
        try:
            response = await self._client.get("/models")
        except httpx.HTTPError as error:
            raise UpstreamError(type(error).__name__) from error
        if response.status_code >= SERVER_ERROR:
            raise UpstreamError(f"status {response.status_code}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _read(response: httpx.Response) -> Completion:
    try:
        return _Answer.model_validate_json(response.content).completion()
    except (ValueError, IndexError) as error:
        raise UpstreamError("the answer is not a chat completion") from error
