"""How long a claim takes when 1,000, 100,000 and 1,000,000 jobs are queued: `python -m tests.benchmarks.claim_latency`.

Figures of one machine at one moment; the ratio to the smallest queue is what should stay. SQLite's is for comparison.
Postgres runs without fsync here, as in the tests, so its figures lack the disk.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg

from prompt_studio import PromptStudioDatabase, Settings
from tests.harness.postgres_server import shared_server

SIZES: Final = (1_000, 100_000, 1_000_000)
CLAIMS: Final = 500
WARM_UP: Final = 20  # a server makes the plan of a prepared statement anew for its first uses

_FILL: Final = """
    INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, priority, status, payload, client_id,
        created_at, available_at, execution_limit)
    SELECT 'job-' || n, 'evaluation', n, 1 + n %% 10, 'queued', '{}', 'benchmark',
        clock_timestamp() - INTERVAL '1 day' + n * INTERVAL '1 ms', clock_timestamp() - INTERVAL '1 hour', 4
    FROM generate_series(1, %s) AS n
"""


def milliseconds_of_claims(database: PromptStudioDatabase) -> list[float]:
    """How long each of so many claims took, shortest first."""
    taken = []
    for number in range(WARM_UP + CLAIMS):
        begun = time.perf_counter()
        job = database.acquire_next_job(worker_id="benchmark")
        if number >= WARM_UP:
            taken.append(1000 * (time.perf_counter() - begun))
        if job is None:
            raise LookupError("the queue ran dry")
    return sorted(taken)


def on_postgres(size: int, settings: Settings) -> list[float]:
    """Claims from a queue of this size, with statistics as an installation has them that has run for a minute."""
    server = shared_server()
    name = server.create_database()
    try:
        with PromptStudioDatabase(server.dsn(name), "benchmark", settings=settings) as database:
            with closing(psycopg.connect(server.dsn(name), autocommit=True)) as session:
                session.execute(_FILL, (size,))
                session.execute("VACUUM ANALYZE prompt_studio_job_queue")
            return milliseconds_of_claims(database)
    finally:
        server.drop_database(name)


def on_sqlite(size: int) -> list[float]:
    """Claims from a file."""
    with (
        tempfile.TemporaryDirectory() as directory,
        PromptStudioDatabase(Path(directory) / "jobs.db", "benchmark") as database,
    ):
        with database.transaction():
            for number in range(size):
                database.create_job("evaluation", number, {}, priority=1 + number % 10)
        return milliseconds_of_claims(database)


def line(label: str, size: int, taken: Sequence[float], first: Sequence[float]) -> str:
    """One row of the table."""
    half, most = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    ratio = half / first[len(first) // 2]
    return f"{label:<22} {size:>9,} queued   p50 {half:6.2f} ms   p99 {most:6.2f} ms   {ratio:4.2f} x the first\n"


def main() -> int:
    """Measure and print."""
    for label, settings in (
        ("postgres", Settings()),
        ("postgres without locks", Settings(advisory_locks=False)),
    ):
        first: list[float] = []
        for size in SIZES:
            taken = on_postgres(size, settings)
            first = first or taken
            sys.stdout.write(line(label, size, taken, first))
            sys.stdout.flush()
    taken = on_sqlite(SIZES[0])
    sys.stdout.write(line("sqlite", SIZES[0], taken, taken))
    return 0


if __name__ == "__main__":
    sys.exit(main())
