"""The README's worker that one can kill, as it stands there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prompt_studio import JobStatus, PromptStudioDatabase
from tests.repository.documents import shell_blocks
from tests.repository.requirements import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.untraced]

LIMIT_SECONDS = 90


@pytest.mark.verifies("PS-LEASE-HB-3", "PS-LEASE-HB-16")
def test_the_worker_of_the_readme_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    (example,) = [
        block for block in shell_blocks((ROOT / "README.md").read_text(encoding="utf-8")) if "kill -9" in block
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-eu", "-c", example],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            told, _ = shell.communicate(timeout=LIMIT_SECONDS)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, told
    assert "job 1: begun" in told
    assert "was_reclaim=True" in told
    assert "lease_token=2" in told
    assert "worker_id=second" in told
    assert "job 1: completed" in told
    with PromptStudioDatabase(tmp_path / "work.db", "reader") as database:
        job = database.get_job(1)
    assert job is not None
    assert (job["status"], job["result"], job["executions"], job["late"]) == (
        JobStatus.COMPLETED,
        {"answer": "SAY HELLO."},
        2,
        False,
    )
