"""A client for any server with OpenAI's chat-completions API."""

from dataclasses import dataclass
from typing import Any

import httpx

CONNECT_TIMEOUT = 2.0
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


class UpstreamError(Exception):
    """The upstream failed: it could not be reached, or answered 5xx, 429 or nonsense."""


class UpstreamTimeout(UpstreamError):  # noqa: N818 -- reads as what happened
    """The upstream did not answer in time."""


class UpstreamRejected(Exception):  # noqa: N818 -- reads as what happened
    """The upstream is well and refused this request (4xx): a wrong key, model or message."""


@dataclass(frozen=True)
class Completion:
    """An answer and what it cost, as the upstream reports it; tokens are 0 where it does not."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Upstream:
    """Chat completions at `base_url` (such as https://host/v1) with `model`."""

    def __init__(self, base_url: str, *, model: str, key: str | None, timeout: float) -> None:
        self.model = model
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
        )

    async def complete(self, messages: list[dict[str, str]], *, json: bool = False) -> Completion:
        """One completion of `messages`; `json` asks for a JSON object. Raises UpstreamError or UpstreamRejected."""
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if json:
            body["response_format"] = {"type": "json_object"}
        try:
            response = await self._client.post("/chat/completions", json=body)
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise UpstreamError(type(error).__name__) from error
        if response.status_code >= SERVER_ERROR or response.status_code == TOO_MANY_REQUESTS:
            raise UpstreamError(f"status {response.status_code}")
        if not response.is_success:
            raise UpstreamRejected(f"status {response.status_code}")
        return _read(response)

    async def ping(self) -> None:
        """Whether the server answers at all, whatever it says; raises UpstreamError."""
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
        answer = response.json()
        usage = answer.get("usage") or {}
        return Completion(
            text=str(answer["choices"][0]["message"]["content"]),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamError("the answer is not a chat completion") from error
