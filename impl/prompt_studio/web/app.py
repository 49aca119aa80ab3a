"""The application: routes over one opened database, with refusals as problem bodies.

Every handler that uses the database is a plain function, which FastAPI runs on a thread: the event loop never waits for
the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import PlainTextResponse

from prompt_studio.database import PromptStudioDatabase
from prompt_studio.prometheus_metrics import Scrapes
from prompt_studio.web import problems
from prompt_studio.web.requests import Database
from prompt_studio.web.routes import optimizations, projects, prompts, status
from prompt_studio.web.schemas import Health, OptimizationCreate, ProjectCreate, PromptCreate, SimpleOptimization
from prompt_studio.web.users import Users

PREFIX: Final = "/api/v1/prompt-studio"
_BODIES: Final = (ProjectCreate, PromptCreate, OptimizationCreate, SimpleOptimization, problems.Problem)


def create_app(
    database: PromptStudioDatabase,
    users: Users | None = None,
    *,
    strict: bool = False,
    switched_on: Iterable[str] = (),
) -> FastAPI:
    """An application over an opened database, which stays the caller's to close.

    Args:
        database: the opened database.
        users: who has which bearer token; None: the host application overrides `user_of_request`.
        strict: whether strategies and knobs that nobody knows are refused.
        switched_on: the strategies that are only there where they are switched on, and are.
    """
    app = FastAPI(title="Prompt Studio", version="1", redirect_slashes=False)
    app.state.users = users
    include_routes(app, database, strict=strict, switched_on=switched_on)
    return app


def include_routes(
    app: FastAPI, database: PromptStudioDatabase, *, strict: bool = False, switched_on: Iterable[str] = ()
) -> None:
    """Add the routes to a host's application, which overrides `user_of_request` with its own dependency."""
    app.state.database = database
    app.state.strict = strict
    app.state.switched_on = frozenset(switched_on)
    if not hasattr(app.state, "users"):
        app.state.users = None
    problems.install(app)
    router = APIRouter(prefix=PREFIX)
    for module in (projects, prompts, optimizations, status):
        router.include_router(module.router)
    app.include_router(router)
    app.include_router(_health)
    scrapes = Scrapes(database)

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """What Prometheus asks for: the queue and the keys of this process."""
        return Response(scrapes.answer(), media_type=scrapes.media_type)

    _describe(app)


_health: Final = APIRouter(tags=["health"])


@_health.get("/health", responses=problems.described(503))
def health(database: Database, response: Response) -> Health:
    """Whether the database answers."""
    response.headers["Cache-Control"] = "no-store"
    database.count_jobs()
    return Health()


def _describe(app: FastAPI) -> None:
    """Tell OpenAPI of the bodies that are read by hand."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = original()
            known = schema.setdefault("components", {}).setdefault("schemas", {})
            for model in _BODIES:
                told = model.model_json_schema(ref_template="#/components/schemas/{model}")
                known.update(told.pop("$defs", {}))
                known[model.__name__] = told
            app.openapi_schema = schema
        return app.openapi_schema

    cast("Any", app).openapi = openapi  # a method that FastAPI wants to be replaced
