"""/api/v1/assistant: the AI concierge."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BaseModel, Field

from app.api.dependencies import ServicesDep
from app.api.limits import limited
from app.api.openapi import errors
from app.api.values import RequestModel, Text, Whole
from app.assistant.planner import Wishes
from app.monitoring.overload import release_slot


async def _wait_without_slot(request: Request, services: ServicesDep) -> None:
    """Release the request's slot: while it waits for the AI upstream, up to AI_TIMEOUT, others are served."""
    if services.concierge.upstream is not None:
        release_slot(request.scope)


router = APIRouter(
    prefix="/api/v1/assistant",
    tags=["assistant"],
    dependencies=[Depends(limited("assistant")), Depends(_wait_without_slot)],
    responses=errors(422, 429, 502, 504),
)

Source = Literal["upstream", "offline"]
Interest = Annotated[str, Text(40), AfterValidator(str.lower)]


class Question(RequestModel):
    """A message to the concierge."""

    message: Annotated[str, Text(2000)]


class Mention(BaseModel):
    """A place that an answer rests on."""

    slug: str
    name: str
    regency: str
    category: str


class Answer(BaseModel):
    """The concierge's answer, and which of the two gave it: the upstream model or the offline catalogue search."""

    answer: str
    source: Source
    model: str | None
    destinations: list[Mention]


class ItineraryRequest(RequestModel):
    """Wishes for an itinerary. Interests are tags or categories of the catalogue."""

    days: Annotated[int, Whole(1, 14)]
    interests: list[Interest] = Field(default_factory=list, max_length=10)
    budget: Annotated[int, Whole(0, 2**31 - 1)] | None = Field(None, description="IDR for entrance fees of one person")
    month: Annotated[int, Whole(1, 12)] | None = None


class Stop(BaseModel):
    """A visit; times are local, HH:MM."""

    slug: str
    name: str
    arrive: str
    leave: str
    travel_minutes: int
    entrance_fee_idr: int | None


class ItineraryDay(BaseModel):
    """The stops of one day, in order."""

    day: int
    stops: list[Stop]


class Itinerary(BaseModel):
    """Days on Bali, and which of the two chose the places: the upstream model or the offline planner."""

    days: list[ItineraryDay]
    total_fee_idr: int
    total_km: float
    source: Source
    model: str | None


@router.post("/chat", response_model=Answer)
async def chat(services: ServicesDep, question: Question) -> dict[str, Any]:
    """Answer a question about Bali."""
    return await services.concierge.chat(question.message)


@router.post("/itineraries", response_model=Itinerary)
async def itineraries(services: ServicesDep, wanted: ItineraryRequest) -> dict[str, Any]:
    """Plan days on Bali. The same wishes get the same itinerary for an hour, in whatever order they are given."""
    interests = tuple(sorted(set(wanted.interests)))
    return await services.concierge.itinerary(Wishes(wanted.days, interests, wanted.budget, wanted.month))
