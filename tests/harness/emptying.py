"""What empties every table of a database, with whoever refers to another before it."""

from typing import Final

_QUEUE: Final = "prompt_studio_job_queue"
_TABLES: Final = (
    _QUEUE,
    "prompt_studio_idempotency",
    "prompt_studio_optimization_iterations",
    "prompt_studio_optimizations",
    "prompt_studio_prompts",
    "prompt_studio_projects",
)
SQLITE: Final = (f"UPDATE {_QUEUE} SET revision = -revision", *(f"DELETE FROM {table}" for table in _TABLES))
"""Statements: jobs are marked first, as whoever may delete them does."""
POSTGRES: Final = f"TRUNCATE {', '.join(_TABLES)} RESTART IDENTITY"
