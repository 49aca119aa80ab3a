"""A process that forks while it has the database open."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from prompt_studio import DatabaseError, PromptStudioDatabase, Settings, StoreUnavailable
from prompt_studio.storage.sqlite import forks
from tests.faults.processes import LIMIT_SECONDS, at_once

pytestmark = pytest.mark.faults

PARENT_CLOSES_BEFORE_THE_CHILD_WRITES = """
import os, sys
from prompt_studio import PromptStudioDatabase

database = PromptStudioDatabase(sys.argv[1], "parent")
database.create_job("evaluation", 0, {})
here, there = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    database.create_job("evaluation", 1, {})
    os.write(here[1], b".")
    os.read(there[0], 1)
    print(database.create_job("evaluation", 2, {})["id"], flush=True)
    os._exit(0)  # as if killed: nothing is closed
os.read(here[0], 1)
database.close()
os.write(there[1], b".")
assert os.waitpid(child, 0)[1] == 0
with PromptStudioDatabase(sys.argv[1], "parent") as database:
    print([job["entity_id"] for job in database.list_jobs()])
"""

# The payloads are larger than SQLite's cache, so a part of the transaction is on the disk when the child ends.
CHILD_ENDS_WHILE_THE_PARENT_IS_IN_A_TRANSACTION = """
import gc, os, sys
from prompt_studio import DatabaseError, PromptStudioDatabase

large = "x" * 300_000
with PromptStudioDatabase(sys.argv[1], "parent") as database:
    with database.transaction():
        for number in range(20):
            database.create_job("evaluation", number, large)
        child = os.fork()
        if child == 0:
            for attempt in (database.count_jobs, lambda: PromptStudioDatabase(sys.argv[1], "child")):
                try:
                    attempt()
                except DatabaseError as error:
                    print(error, flush=True)
            gc.collect()
            sys.exit()
        os.waitpid(child, 0)
        database.create_job("evaluation", 20, large)
    with PromptStudioDatabase(sys.argv[1], "other") as other:
        print(sum(job["payload"] == large for job in other.list_jobs()))
"""


def ran(script: str, path: Path, *, wal: bool = True) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        env=os.environ | {"TLDW_PS_SQLITE_WAL": str(int(wal))},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class TestAFork:
    @pytest.mark.verifies("INV-NOTHING-LOST")
    def test_gives_the_child_a_connection_that_survives_the_parents(self, path: Path) -> None:
        assert ran(PARENT_CLOSES_BEFORE_THE_CHILD_WRITES, path) == ["3", "[0, 1, 2]"]

    def test_leaves_both_able_to_go_on(self, path: Path) -> None:
        with PromptStudioDatabase(path, "tester") as database:
            database.create_job("evaluation", 1, {})
            assert at_once(2, lambda _: database.count_jobs()) == [1, 1]
            ids = at_once(2, lambda _: database.create_job("evaluation", 1, {})["id"])
            assert sorted(ids) == [2, 3]
            assert database.count_jobs() == 3

    def test_lets_the_child_close_what_it_inherited(self, path: Path) -> None:
        def close(_: int) -> bool:
            database.close()
            return True

        with PromptStudioDatabase(path, "tester") as database:
            database.create_job("evaluation", 1, {})
            assert at_once(1, close) == [True]
            assert database.count_jobs() == 1


class TestAForkInATransaction:
    @pytest.mark.parametrize("wal", [True, False])
    @pytest.mark.verifies("PS-FAULTS-2", "INV-NOTHING-LOST")
    def test_refuses_the_file_in_the_child_and_does_not_disturb_the_parent(self, path: Path, *, wal: bool) -> None:
        inherited, opened, parent = ran(CHILD_ENDS_WHILE_THE_PARENT_IS_IN_A_TRANSACTION, path, wal=wal)
        assert "spoiled" in inherited
        assert "fork outside of transactions" in opened
        assert parent == "21"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def test_has_no_transaction_in_the_child(self, path: Path) -> None:
        def go_on(_: int) -> str:
            with pytest.raises(DatabaseError) as caught:
                database.create_job("evaluation", 1, {})
            return str(caught.value)

        with PromptStudioDatabase(path, "tester") as database:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                (said,) = at_once(1, go_on)
            assert "spoiled" in said
            assert database.count_jobs() == 1

    def test_of_another_thread_is_waited_for_and_then_refused_in_the_child(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forks, "BUSY_SECONDS_MAX", 0.02)
        begun, forked = threading.Event(), threading.Event()

        def stay_in_a_transaction() -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                begun.set()
                assert forked.wait(LIMIT_SECONDS)

        def look(_: int) -> str:
            with pytest.raises(StoreUnavailable) as caught:
                database.count_jobs()
            database.close()
            return str(caught.value)

        with PromptStudioDatabase(path, "tester") as database:
            thread = threading.Thread(target=stay_in_a_transaction)
            thread.start()
            assert begun.wait(LIMIT_SECONDS)
            (said,) = at_once(1, look)
            forked.set()
            thread.join(LIMIT_SECONDS)
            assert "forked while a transaction" in said
            assert database.count_jobs() == 1


class TestClosing:
    def test_reports_a_thread_that_stays_in_a_transaction(self, path: Path, impatient: Settings) -> None:
        begun, closed = threading.Event(), threading.Event()

        def stay_in_a_transaction() -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                begun.set()
                assert closed.wait(LIMIT_SECONDS)

        database = PromptStudioDatabase(path, "tester", settings=impatient)
        thread = threading.Thread(target=stay_in_a_transaction, name="the slow one")
        thread.start()
        assert begun.wait(LIMIT_SECONDS)
        with pytest.raises(StoreUnavailable, match="the slow one has a transaction"):
            database.close()
        closed.set()
        thread.join(LIMIT_SECONDS)
        database.close()
        with PromptStudioDatabase(path, "tester") as again:
            assert again.count_jobs() == 1
