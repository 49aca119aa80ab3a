"""How the queue is, for those who watch it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from prompt_studio.web.answers import refusals
from prompt_studio.web.requests import Database
from prompt_studio.web.schemas import Envelope, Leases, Status
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/status", tags=["status"])


@router.get("", responses=refusals(422))
def get_status(
    database: Database, user: User, warn_seconds: Annotated[int, Query(ge=1, le=3_600)] = 30
) -> Envelope[Status]:
    """The depths of the queue, its leases, and how its jobs end."""
    del user
    leases = database.get_lease_stats(warn_seconds)
    return Envelope(data=Status.model_validate({**database.get_job_stats(), "leases": Leases.model_validate(leases)}))
