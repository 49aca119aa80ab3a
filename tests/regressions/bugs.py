"""The bugs that our own layers found, put back: each schedule that is kept here must still show its own."""

from typing import Any, Final, cast

from prompt_studio import PromptStudioDatabase
from tests.harness.broken_stores import BrokenStore


def _looks_again(database: PromptStudioDatabase) -> None:
    """A row that was not there to be held is looked for again, and what is found by then is what is told of."""
    store = cast("Any", database)._store
    hold = store._hold

    def held(session: Any, parameters: Any) -> bool:  # noqa: ANN401 - the store's own
        hold(session, parameters)
        return True

    store._hold = held


REINTRODUCED: Final = {
    "a-call-on-a-job-that-is-created-meanwhile": BrokenStore(
        name="a row that was not there is looked at again", besides=_looks_again
    ),
}
"""By the name of the schedule's file."""
