"""`python -m prompt_studio work` behind a proxy that pools transactions: what it advises is what it can do."""

import re
import signal
from pathlib import Path

import pytest

from prompt_studio import PromptStudioDatabase
from tests.faults.test_postgres_opening import proxied
from tests.harness.postgres_server import PrivateServer
from tests.processes.test_work_command import TASKS, Worker

pytestmark = [pytest.mark.faults, pytest.mark.untraced]


@pytest.mark.verifies("PS-LOCKS-4")
def test_works_behind_a_proxy_that_pools_transactions_when_it_is_told_so(
    private_server: PrivateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    with proxied(private_server, "first in", 4) as (dsn, _):
        refused = Worker(tmp_path, "--handlers", "tasks:handlers", "--create", database=dsn)
        try:
            code, told = refused.ended()
        finally:
            refused.close()
        variable = re.search("([A-Z_]*POOLER)=1", told)
        assert variable is not None
        assert code == 1
        monkeypatch.setenv(variable[1], "1")
        worker = Worker(tmp_path, "--handlers", "tasks:handlers", "--create", "--poll-seconds", "0.1", database=dsn)
        try:
            worker.await_line("working")
            with PromptStudioDatabase(dsn, "tester") as database:
                database.create_job("evaluation", 1, "well")
                worker.await_line("job 1: completed")
            worker.signal(signal.SIGTERM)
            assert worker.ended()[0] == 0
        finally:
            worker.close()
