"""News by server-sent events and by websocket, and a mounted application for the staff."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

router = APIRouter(prefix="/live")
staff = FastAPI()


@router.get("/news")
async def news() -> StreamingResponse:
    """Send three events."""

    async def events() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@router.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    """Send each message back."""
    await socket.accept()
    async for message in socket.iter_text():
        await socket.send_text(message)


@staff.get("/shifts/{day}")
def shifts(day: str) -> dict[str, str]:
    """Name who works on a day."""
    return {"day": day, "who": "Made"}


@staff.get("/payroll/{day}")
def payroll(day: str) -> None:
    """Fail in the mounted application."""
    raise ArithmeticError(f"payroll of {day}")
