"""Interruptions, wherever they come: no connection gets two owners, none is missing for ever, no lock stays held."""

import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import prompt_studio.storage
from prompt_studio import PromptStudioDatabase, Settings
from prompt_studio.storage.postgres.connection import Handle
from prompt_studio.storage.postgres.pool import PooledHandles
from tests.faults.server_sessions import LIMIT_SECONDS

pytestmark = pytest.mark.faults

STORAGE = str(Path(prompt_studio.storage.__file__).parent)
ONE = Settings(pool_connections=1, write_retry_seconds=5)


class TestAnInterruption:
    @pytest.mark.verifies("INV-NOTHING-LOST")
    def test_while_a_connection_is_given_back_leaves_it_no_second_owner(
        self, served: PromptStudioDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, ended = threading.Event(), threading.Event()
        give = PooledHandles.give

        def interrupted(handles: PooledHandles, handle: Handle) -> None:
            give(handles, handle)
            raise KeyboardInterrupt

        def roll_back() -> None:
            with served.transaction():
                served.create_job("evaluation", 1, {"whose": "theirs"})
                begun.set()
                assert ended.wait(LIMIT_SECONDS)
                raise LookupError

        with monkeypatch.context() as patched:
            patched.setattr(PooledHandles, "give", interrupted)
            with pytest.raises(KeyboardInterrupt):
                served.count_jobs()
        with ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(roll_back)
            assert begun.wait(LIMIT_SECONDS)
            served.create_job("evaluation", 1, {"whose": "ours"})
            ended.set()
            with pytest.raises(LookupError):
                theirs.result(LIMIT_SECONDS)
        assert [job["payload"] for job in served.list_jobs()] == [{"whose": "ours"}]

    @pytest.mark.filterwarnings("ignore:.*was deleted while still open")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.verifies("INV-NOTHING-LOST")
    def test_before_any_line_leaves_a_connection_for_everybody(self, postgres_database: str) -> None:
        with (
            PromptStudioDatabase(postgres_database, "tester", settings=ONE) as database,
            ThreadPoolExecutor(1) as pool,
        ):
            calls: tuple[Callable[[], object], ...] = (
                lambda: database.record_idempotency("job", "k", 1, None),
                lambda: database.create_job("evaluation", 1, {}),
            )
            gc.freeze()  # what was there before need not be looked at again at each line
            for call in calls:
                line = 0
                while _interrupted(call, line):
                    gc.collect()
                    database.count_jobs()
                    pool.submit(database.count_jobs).result(LIMIT_SECONDS)
                    line += 1
                assert line > 20
            gc.unfreeze()


def _interrupted(call: Callable[[], object], lines: int) -> bool:
    """Whether the call was interrupted, which it is before it has run so many lines of the store's."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - as sys.settrace wants it
        nonlocal left
        if not frame.f_code.co_filename.startswith(STORAGE):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
