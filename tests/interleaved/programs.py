"""Small programs of ordinary SQL, as people write them: right ones, and beside them wrong ones.

Each is a function of a connection of psycopg or of sqlite3, and knows nothing of schedules.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from psycopg import IsolationLevel, errors

from tests.harness.interleaving.programs import Programs, Weaker
from tests.harness.interleaving.scenario import Call, Move

Connection = Any
"""One of psycopg or of sqlite3."""

Lanes = dict[str, tuple[Move, ...]]

TRIES_MAX: Final = 10
"""Above it a retry is a defect: each other lane commits once."""


def lanes_of(program: Callable[..., Hashable], count: int = 2, *, named: bool = False) -> Lanes:
    """The same program in each lane. `named`: it is given the name of its lane."""
    names = "abc"[:count]
    return {name: (Call(program=program, arguments=(name,) if named else ()),) for name in names}


# A counter: read, add one, write.

COUNTER: Final = "CREATE TABLE counter (n INTEGER NOT NULL)"
NOUGHT: Final = "INSERT INTO counter VALUES (0)"
COUNTED: Final = ("SELECT n FROM counter",)


def _increment(connection: Connection) -> int:
    n = int(connection.execute("SELECT n FROM counter").fetchone()[0]) + 1
    _write(connection, n)
    return n


def _write(connection: Connection, n: int) -> None:
    connection.execute(f"UPDATE counter SET n = {n:d}")


def increment_unguarded(connection: Connection) -> int:
    n = _increment(connection)
    connection.commit()
    return n


def increment_in_one_statement(connection: Connection) -> int:
    n: int = connection.execute("UPDATE counter SET n = n + 1 RETURNING n").fetchone()[0]
    connection.commit()
    return n


def increment_with_row_locked(connection: Connection) -> int:
    n: int = connection.execute("SELECT n FROM counter FOR UPDATE").fetchone()[0] + 1
    _write(connection, n)
    connection.commit()
    return n


def increment_in_a_block(connection: Connection) -> int:
    with connection.transaction():
        n: int = connection.execute("SELECT n FROM counter FOR UPDATE").fetchone()[0] + 1
        _write(connection, n)
    return n


def increment_under_a_lock_of_the_transaction(connection: Connection) -> int:
    connection.execute("SELECT pg_advisory_xact_lock(1)")
    return increment_unguarded(connection)


def increment_and_unlock_after_commit(connection: Connection) -> int:
    connection.autocommit = True
    connection.execute("SELECT pg_advisory_lock(1)")
    with connection.transaction():
        n = _increment(connection)
    connection.execute("SELECT pg_advisory_unlock(1)")
    return n


def increment_and_unlock_before_commit(connection: Connection) -> int:
    connection.autocommit = True
    connection.execute("SELECT pg_advisory_lock(1)")
    with connection.transaction():
        n = _increment(connection)
        connection.execute("SELECT pg_advisory_unlock(1)")
    return n


def increment_as_the_only_writer(connection: Connection) -> int:
    connection.execute("BEGIN IMMEDIATE")
    return increment_unguarded(connection)


def increment_after_a_deferred_begin(connection: Connection) -> int:
    connection.execute("BEGIN")
    return increment_unguarded(connection)


def increment_without_a_transaction(connection: Connection) -> int:
    connection.isolation_level = None
    return _increment(connection)


# A queue of jobs: take the first that is free.

QUEUE: Final = "CREATE TABLE jobs (id INTEGER PRIMARY KEY, owner TEXT)"
ONE_JOB, TWO_JOBS = "INSERT INTO jobs VALUES (1, NULL)", "INSERT INTO jobs VALUES (1, NULL), (2, NULL)"
OWNED: Final = ("SELECT id, owner FROM jobs ORDER BY id",)
FREE: Final = "SELECT id FROM jobs WHERE owner IS NULL ORDER BY id LIMIT 1"


def _lease(connection: Connection, owner: str, lock: str) -> int | None:
    row = connection.execute(f"{FREE} {lock}").fetchone()
    if row is None:
        return None
    connection.execute(f"UPDATE jobs SET owner = '{owner}' WHERE id = {row[0]:d}")
    return int(row[0])


def lease(connection: Connection, owner: str) -> int | None:
    job_id = _lease(connection, owner, "FOR UPDATE SKIP LOCKED")
    connection.commit()
    return job_id


def lease_without_a_lock(connection: Connection, owner: str) -> int | None:
    job_id = _lease(connection, owner, "")
    connection.commit()
    return job_id


def lease_in_one_statement(connection: Connection, owner: str) -> tuple[int, ...]:
    return _update_where(connection, owner, f"id = ({FREE} FOR UPDATE SKIP LOCKED)")


def lease_in_one_statement_without_a_lock(connection: Connection, owner: str) -> tuple[int, ...]:
    return _update_where(connection, owner, f"id = ({FREE})")


def lease_in_one_statement_for_every_row(connection: Connection, owner: str) -> tuple[int, ...]:
    """The plan runs the inner query once for each row of the outer one, and each run locks the next job."""
    for way in ("hashjoin", "mergejoin", "material", "hashagg", "sort"):
        connection.execute(f"SET LOCAL enable_{way} = off")
    return _update_where(connection, owner, f"id IN ({FREE} FOR UPDATE SKIP LOCKED)")


def _update_where(connection: Connection, owner: str, which: str) -> tuple[int, ...]:
    updated = connection.execute(f"UPDATE jobs SET owner = '{owner}' WHERE {which} RETURNING id").fetchall()
    connection.commit()
    return tuple(sorted(row[0] for row in updated))


def lease_and_give_back(connection: Connection, owner: str) -> int | None:
    job_id = _lease(connection, owner, "FOR UPDATE SKIP LOCKED")
    connection.rollback()
    return job_id


# A key that is recorded once: who was it?

KEYS: Final = "CREATE TABLE keys (name TEXT PRIMARY KEY, owner TEXT NOT NULL)"
RECORDED: Final = ("SELECT name, owner FROM keys ORDER BY name",)


def record(connection: Connection, owner: str) -> str:
    connection.execute(f"INSERT INTO keys VALUES ('key', '{owner}') ON CONFLICT DO NOTHING")
    winner: str = connection.execute("SELECT owner FROM keys WHERE name = 'key'").fetchone()[0]
    connection.commit()
    return winner


def record_in_one_statement(connection: Connection, owner: str) -> str | None:
    row = connection.execute(
        f"WITH new AS (INSERT INTO keys VALUES ('key', '{owner}') ON CONFLICT DO NOTHING RETURNING owner) "
        "SELECT owner FROM new UNION ALL SELECT owner FROM keys WHERE name = 'key'"
    ).fetchone()
    connection.commit()
    return None if row is None else str(row[0])


def record_after_a_look(connection: Connection, owner: str) -> str:
    row = connection.execute("SELECT owner FROM keys WHERE name = 'key'").fetchone()
    if row is None:
        connection.execute(f"INSERT INTO keys VALUES ('key', '{owner}')")
    connection.commit()
    return owner if row is None else str(row[0])


# Two accounts.

ACCOUNTS: Final = "CREATE TABLE accounts (name TEXT PRIMARY KEY, amount INTEGER NOT NULL)"
TEN_EACH: Final = "INSERT INTO accounts VALUES ('x', 10), ('y', 10)"
AMOUNTS: Final = ("SELECT name, amount FROM accounts ORDER BY name",)


def transfer(connection: Connection, giver: str, taker: str) -> None:
    connection.execute(f"UPDATE accounts SET amount = amount - 1 WHERE name = '{giver}'")
    connection.execute(f"UPDATE accounts SET amount = amount + 1 WHERE name = '{taker}'")
    connection.commit()


def transfer_in_one_order(connection: Connection, giver: str, taker: str) -> None:
    for name in sorted((giver, taker)):
        change = -1 if name == giver else 1
        connection.execute(f"UPDATE accounts SET amount = amount + {change:d} WHERE name = '{name}'")
    connection.commit()


def _transfers(program: Callable[..., Hashable]) -> Lanes:
    return {
        "a": (Call(program=program, arguments=("x", "y")),),
        "b": (Call(program=program, arguments=("y", "x")),),
    }


def withdraw_from_both(connection: Connection, name: str, level: str) -> bool:
    """The two together must not fall below nought, and one alone may."""
    connection.isolation_level = IsolationLevel[level]
    both = connection.execute("SELECT SUM(amount) FROM accounts").fetchone()[0]
    if both >= 20:
        connection.execute(f"UPDATE accounts SET amount = amount - 20 WHERE name = '{name}'")
    connection.commit()
    return bool(both >= 20)


def withdraw_and_try_again(connection: Connection, name: str) -> bool:
    for _ in range(TRIES_MAX):
        try:
            return withdraw_from_both(connection, name, "SERIALIZABLE")
        except errors.SerializationFailure:
            connection.rollback()
    raise AssertionError(f"{TRIES_MAX} tries were not enough")


def _withdrawals(program: Callable[..., Hashable], *more: str) -> Lanes:
    return {lane: (Call(program=program, arguments=(name, *more)),) for lane, name in zip("ab", "xy", strict=True)}


@dataclass(frozen=True, slots=True)
class Wrong:
    """Programs that some schedule must show to be wrong.

    Attributes:
        programs: what is wrong.
        shown_by: what the diagram of the shortest schedule must say.
    """

    programs: Programs
    shown_by: str


def _counter(name: str, program: Callable[..., Hashable], count: int = 2) -> Programs:
    return Programs(name=name, schema=COUNTER, rows=NOUGHT, lanes=lanes_of(program, count), reads=COUNTED)


def _queue(name: str, program: Callable[..., Hashable], count: int = 2, **more: Any) -> Programs:  # noqa: ANN401 - its fields
    return Programs(
        name=name, schema=QUEUE, rows=TWO_JOBS, lanes=lanes_of(program, count, named=True), reads=OWNED, **more
    )


def _keys(name: str, program: Callable[..., Hashable], count: int = 2) -> Programs:
    return Programs(name=name, schema=KEYS, lanes=lanes_of(program, count, named=True), reads=RECORDED)


def _accounts(name: str, lanes: Lanes, weaker: Weaker | None = None) -> Programs:
    return Programs(name=name, schema=ACCOUNTS, rows=TEN_EACH, lanes=lanes, reads=AMOUNTS, weaker=weaker)


PASSED_BY: Final = Weaker(
    "SKIP LOCKED passes by a row that is locked by whoever gives it back: nothing was free at that moment",
    values=frozenset({None}),
)
REFUSED: Final = Weaker(
    "the server may refuse to serialize two that are under way, and what it refused is undone",
    errors=frozenset({"40001"}),
    of_snapshots=True,
)
ONE_STATEMENT: Final = _queue("lease in one statement", lease_in_one_statement)

RIGHT_ON_POSTGRES: Final = (
    _counter("count in one statement", increment_in_one_statement, 3),
    _counter("count with the row locked", increment_with_row_locked),
    _counter("count in a block", increment_in_a_block),
    _counter("count under a lock of the transaction", increment_under_a_lock_of_the_transaction),
    _counter("unlock after commit", increment_and_unlock_after_commit),
    _queue("lease", lease),
    ONE_STATEMENT,
    Programs(
        name="lease and give back",
        schema=QUEUE,
        rows=ONE_JOB,
        lanes=lanes_of(lease_and_give_back, named=True),
        reads=OWNED,
        weaker=PASSED_BY,
    ),
    _keys("insert, then select", record),
    _accounts("transfer in one order", _transfers(transfer_in_one_order)),
    _accounts("withdraw, serializable, or be refused", _withdrawals(withdraw_from_both, "SERIALIZABLE"), REFUSED),
    _accounts("withdraw, serializable, and try again", _withdrawals(withdraw_and_try_again)),
)
RIGHT_ON_SQLITE: Final = (
    _counter("count in one statement", increment_in_one_statement, 3),
    _counter("count as the only writer", increment_as_the_only_writer, 3),
    _keys("insert, then select", record),
    _accounts("transfer in any order", _transfers(transfer)),
)

WRONG_ON_POSTGRES: Final = (
    Wrong(_counter("lost update", increment_unguarded), "update"),
    Wrong(_counter("unlock before commit", increment_and_unlock_before_commit), "commit"),
    Wrong(_queue("lease without a lock", lease_without_a_lock), "update"),
    Wrong(_queue("lease in one statement without a lock", lease_in_one_statement_without_a_lock), "(waits)"),
    Wrong(
        _queue("lease in one statement for every row", lease_in_one_statement_for_every_row, meant=ONE_STATEMENT),
        "(1, 2)",
    ),
    Wrong(_keys("insert and select in one statement", record_in_one_statement), "} None"),
    Wrong(_keys("look, then insert", record_after_a_look), "23505"),
    Wrong(_accounts("transfer in opposite orders", _transfers(transfer)), "40P01"),
    Wrong(_accounts("withdraw, repeatable read", _withdrawals(withdraw_from_both, "REPEATABLE_READ")), "} True"),
)
WRONG_ON_SQLITE: Final = (
    Wrong(_counter("lost update", increment_without_a_transaction), "update"),
    Wrong(_counter("deferred begin", increment_after_a_deferred_begin), "SQLITE_BUSY"),
    Wrong(_keys("look, then insert", record_after_a_look), "SQLITE_CONSTRAINT_PRIMARYKEY"),
)

PROGRAMS: Final = {
    (store, programs.name): programs
    for store, right, wrong in (
        ("postgres", RIGHT_ON_POSTGRES, WRONG_ON_POSTGRES),
        ("sqlite", RIGHT_ON_SQLITE, WRONG_ON_SQLITE),
    )
    for programs in (*right, *(one.programs for one in wrong))
}
"""By the name of the store and their own, for whoever plays a schedule of a file again."""
