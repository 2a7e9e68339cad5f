"""Reading of a connection: bounded by the requests that wait in its pipeline."""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

# Requests that wait behind an unanswered one before the rest of what was read is kept unparsed.
MAX_PIPELINED = 100
# Bytes that are parsed at once, apart from bodies of a known length. The pipeline exceeds MAX_PIPELINED at most by the
# requests in one piece, of 18 bytes or more each.
PIECE_BYTES = 4096


class Flow(FlowControl):
    """Uvicorn's flow control, which reads nothing while requests or unparsed bytes wait, or while it is held."""

    unparsed: bytes | memoryview = b""
    """What was read and is not parsed, until the pipeline is empty."""

    held = False
    """True while further requests wait after rejections. What is read then is kept unparsed, up to one piece and the
    rest of a read: to stop and start reading again would cost more than a rejection."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on, unless something waits."""
        if self.read_paused and not (self._pipeline or self.unparsed or self.held):
            super().resume_reading()
