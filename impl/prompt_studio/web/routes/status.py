"""How the queue is, for those who watch it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from prompt_studio.web.answers import Plain, refusals, single_query
from prompt_studio.web.edge import Database
from prompt_studio.web.problems import ProblemRoute
from prompt_studio.web.schemas import StudioEnvelope, StudioLeases, StudioStatus
from prompt_studio.web.users import User

router: Final = APIRouter(prefix="/status", route_class=ProblemRoute, tags=["status"])


@router.get("", responses=refusals(422))
def get_status(
    database: Database,
    user: User,
    _: Annotated[None, Depends(single_query)],
    warn_seconds: Annotated[int, Query(ge=1, le=3_600), Plain] = 30,
) -> StudioEnvelope[StudioStatus]:
    """The depths of the queue, its leases, and how its jobs end."""
    del user
    leases = StudioLeases.model_validate(database.get_lease_stats(warn_seconds))
    return StudioEnvelope(data=StudioStatus.model_validate({**database.get_job_stats(), "leases": leases}))
