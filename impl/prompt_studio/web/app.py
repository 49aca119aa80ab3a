"""The routes, for a host's application, or for one that stands alone.

Every handler that uses the database is a plain function, which FastAPI runs on a thread, or sends its question to one:
the event loop never waits for the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.optimization.gates import switched_on_here
from prompt_studio.prometheus_metrics import Scrapes
from prompt_studio.web import problems
from prompt_studio.web.edge import Edge, OwnsSignature, OwnsTestCase, refuse_to_await
from prompt_studio.web.loops import OfEachLoop
from prompt_studio.web.routes import optimizations, projects, prompts, status
from prompt_studio.web.schemas import StudioHealth
from prompt_studio.web.tokens import Users
from prompt_studio.web.turns import Turns
from prompt_studio.web.users import BEARER

PREFIX: Final = "/api/v1/prompt-studio"
HEALTH_THREADS: Final = 2

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    database: PromptStudioDatabase,
    users: Users | None = None,
    *,
    strict: bool = False,
    switched_on: Iterable[str] | None = None,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """An application over an opened database, which stays the caller's to close.

    Args:
        database: the opened database.
        users: who has which bearer token; None: nobody, unless `user_of_request` is overridden.
        strict: whether strategies and knobs that nobody knows are refused.
        switched_on: the strategies that are only there where they are switched on, and are; None asks the environment.
        lifespan: what is done before the first request and after the last.
    """
    app = FastAPI(title="Prompt Studio", version="1", redirect_slashes=False, lifespan=lifespan)
    include_routes(app, database, users, strict=strict, switched_on=switched_on)
    app.include_router(watching(database))
    # What is no route of ours: a path that is not there, a method that it does not have.
    app.add_exception_handler(HTTPException, problems.answer_to)
    app.add_exception_handler(Exception, problems.answer_to)
    return app


def include_routes(  # noqa: PLR0913 - a host may have its own say in each of them
    app: FastAPI | APIRouter,
    database: PromptStudioDatabase,
    users: Users | None = None,
    *,
    strict: bool = False,
    switched_on: Iterable[str] | None = None,
    owns_signature: OwnsSignature | None = None,
    owns_test_case: OwnsTestCase | None = None,
) -> None:
    """Add the routes to a host's application, which overrides `user_of_request` with its own dependency.

    Nothing else of the application is changed (PS-HTTP-6). It may do so again with another database and another prefix.

    Args:
        app: the application, or a router of it.
        database: the opened database, which stays the caller's to close.
        users: who has which bearer token, if nothing is overridden.
        strict: as for `create_app`.
        switched_on: as for `create_app`.
        owns_signature: whether a user has a signature in a project; None: there are no signatures. A plain function,
            which is called on a thread.
        owns_test_case: whether a user has a test case in a project; None: the numbers are passed to the job as they
            come, and whoever runs it asks whose they are.

    Raises:
        InputError: one of these functions is asynchronous.
    """
    refuse_to_await("owns_signature", owns_signature)
    refuse_to_await("owns_test_case", owns_test_case)
    edge = Edge(
        database=database,
        users=users,
        strict=strict,
        switched_on=switched_on_here() if switched_on is None else frozenset(switched_on),
        owns_signature=owns_signature,
        owns_test_case=owns_test_case,
        turns=Turns.of_writers(database.settings),
    )
    router = APIRouter(prefix=PREFIX)
    for module in (projects, prompts, optimizations, status):
        router.include_router(module.router)
    told = [] if users is None else [Depends(BEARER)]  # how its users say who they are; a host says that of its own
    # The routes keep their own class, by which their refusals are answered.
    app.include_router(router, dependencies=[edge.dependency(), *told])  # impl: PS-HTTP-6


def watching(database: PromptStudioDatabase) -> APIRouter:
    """`/health` and `/metrics`, for a host that has none of its own. They ask for no user."""
    router = APIRouter(route_class=problems.ProblemRoute, tags=["health"])
    scrapes = Scrapes(database)
    # Threads of its own: that all the others are busy is no news of the database.
    threads = OfEachLoop(lambda: CapacityLimiter(HEALTH_THREADS))

    @router.get("/health", responses=problems.described(500, 503))
    async def health(response: Response) -> StudioHealth:
        """Whether the database answers."""
        response.headers["Cache-Control"] = "no-store"
        await to_thread.run_sync(database.get_schema_version, limiter=threads.here())  # impl: PS-HTTP-8
        return StudioHealth()

    @router.get("/metrics", response_class=PlainTextResponse, responses=problems.described(500))
    def metrics() -> Response:
        """What Prometheus asks for: the queue, and the keys of this process."""
        return Response(scrapes.answer(), media_type=scrapes.media_type)

    return router
