"""Brings a database to this library's schema: once for every kind of database.

The old rows are converted into temporary tables and looked at there. Only then are the old tables dropped, the new ones
made by the scripts that a fresh database gets, and the rows stored. All of it is one transaction, so that whatever ends
it leaves the database as it was. A dry run does everything too, and rolls back: on a private copy, where the database
is one that can be copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prompt_studio.errors import SchemaError, TransientConflict
from prompt_studio.migration_report import BEFORE_VERSIONS, CHANGES, MigrationReport
from prompt_studio.storage.brought_tables import belongs_to, brought, told
from prompt_studio.storage.dialect import NO_PARAMETERS, Connection, Parameters, Row
from prompt_studio.storage.old_json import trouble_with
from prompt_studio.storage.statements import Statement, Statements
from prompt_studio.storage.transactions import ROLLBACK, Session
from prompt_studio.storage.versions import JOB_TABLE, KEY_TABLE, SCHEMA_TABLE, SCHEMA_VERSION, Place, Standing

COMPLAINTS_SHOWN: Final = 20

UTC: Final = "UTC"
TIME: Final = "TIMESTAMPTZ"
NUMBER: Final = "BIGINT"
_JOB_COLUMNS: Final = {
    "id": NUMBER,
    "uuid": "TEXT",
    "job_type": "TEXT",
    "entity_id": NUMBER,
    "project_id": NUMBER,
    "priority": NUMBER,
    "status": "TEXT",
    "payload": "TEXT",
    "result": "TEXT",
    "error_message": "TEXT",
    "retry_count": NUMBER,
    "max_retries": NUMBER,
    "client_id": "TEXT",
    "created_at": TIME,
    "started_at": TIME,
    "completed_at": TIME,
    "leased_until": TIME,
    "lease_owner": "TEXT",
}
_KEY_COLUMNS: Final = {
    "id": NUMBER,
    "entity_type": "TEXT",
    "idempotency_key": "TEXT",
    "entity_id": NUMBER,
    "user_id": "TEXT",
    "created_at": TIME,
}
_REQUIRED: Final = {
    JOB_TABLE: {"id", "job_type", "entity_id", "status", "payload", "client_id", "created_at"},
    KEY_TABLE: {"id", "entity_type", "idempotency_key", "entity_id"},
}
_VIEWS: Final = {
    JOB_TABLE: ("prompt_studio_old_jobs", _JOB_COLUMNS),
    KEY_TABLE: ("prompt_studio_old_keys", _KEY_COLUMNS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one database must say so that it can be migrated.

    Attributes:
        place: its name in messages.
        connection: of the migration's own; it is closed at the end.
        session: on that connection.
        statements: those of `queries/migrate*.sql`.
        schema: the statements that make each version of the schema from the one before.
        list_contents: which names are in it.
        refuse_wrong_path: refuses a session whose tables would be made where they do not belong.
        missing: there is not even a file.
        begin_dry_run: begins a transaction that sees one state, and that a dry run rolls back.
        one_at_a_time: what keeps other migrations out, first of all in the transaction.
        before: further statements before the old tables are read, of which these exist.
        has_owners: the old tables belong to somebody, who may have let others use them, or see a part of them.
        zone: settles what a time without a zone is taken for, and says it.
        measured: what the time of a dry run is.
        id_counter: the table that counts ids, which may be missing; None when there is none.
        old_column: an expression for a column of an old table, from its name, its new type and the type that was
            found; None where the table lacks it.
        locks: the locks, as sentences.
    """

    place: Place
    connection: Connection
    session: Session
    statements: Statements
    schema: Sequence[Statements]
    list_contents: Statement
    refuse_wrong_path: Callable[[], None]
    missing: bool
    begin_dry_run: Statement
    one_at_a_time: Sequence[Statement]
    before: Callable[[Sequence[str]], Sequence[Statement]]
    has_owners: bool
    zone: Callable[[], str]
    measured: str
    id_counter: str | None
    old_column: Callable[[str, str, str | None], str]
    locks: tuple[str, ...]


def migrate(site: Site, *, dry_run: bool) -> MigrationReport:
    """Bring the database to this version of the schema, or, on a dry run, say what that would do.

    Raises:
        SchemaError: it is newer, or something in it cannot be converted; it was not altered.
        TransientConflict: others were in the way for too long; it was not altered.
    """
    begun = time.monotonic()
    try:
        return Migration(site, begun, dry_run=dry_run).done()
    finally:
        site.connection.close()


class Migration:
    """One run."""

    def __init__(self, site: Site, begun: float, *, dry_run: bool) -> None:
        self._site = site
        self._begun = begun
        self._dry_run = dry_run
        self._known = len(site.schema)

    def done(self) -> MigrationReport:
        """The report, when everything is done or nothing."""
        session = self._site.session
        if self._dry_run:
            return session.patience().retry(self._looked)
        if session.read(lambda _: self._standing()).is_current:
            return self._report(self._known)
        try:
            return session.write(lambda _: self._migrated(), long=True)
        except TransientConflict as conflict:
            raise TransientConflict(f"{conflict}, or for another migration that is under way") from conflict

    def _looked(self) -> MigrationReport:
        # impl: PS-MIGRATION-2
        if self._site.missing:
            return self._reported(BEFORE_VERSIONS, None)
        self._run(self._site.begin_dry_run)
        try:
            return self._migrated()
        finally:
            self._run(ROLLBACK)

    def _migrated(self) -> MigrationReport:
        try:
            for statement in self._site.one_at_a_time:
                self._run(statement)
        except TransientConflict as conflict:
            raise TransientConflict(
                f"{conflict}: another migration, dry run or initialisation is under way"
            ) from conflict
        return self._decided()

    def _decided(self) -> MigrationReport:
        standing = self._standing()  # looked at now that nobody else can change it: a rival may have been here
        standing.refuse_unknown_version(self._site.place)
        if standing.is_current:  # impl: PS-MIGRATION-3
            return self._report(self._known)
        self._site.refuse_wrong_path()
        if standing.is_from_before:
            return self._converted([name for name in (JOB_TABLE, KEY_TABLE) if name in standing.contents], standing)
        return self._initialised(standing)

    def _initialised(self, standing: Standing) -> MigrationReport:
        found = standing.version or BEFORE_VERSIONS
        kept = self._told_of_brought(standing)
        self._make_schema(found, standing)
        return self._reported(found, standing.version, kept)

    def _reported(self, found: int, version: int | None, kept: tuple[str, ...] = ()) -> MigrationReport:
        steps = tuple(f"make version {n} of the schema" for n in range(found + 1, self._known + 1))
        return self._report(version, steps=steps, kept=kept)

    def _told_of_brought(self, standing: Standing) -> tuple[str, ...]:
        """What becomes of the tables that the host application has brought."""
        found: dict[str, list[str]] = {table: [] for table in brought(standing.contents)}
        for row in self._named("list_brought_columns") if found else ():
            found[row["table_name"]].append(row["name"])
        return tuple(told(found))

    def _converted(self, tables: list[str], standing: Standing) -> MigrationReport:
        for statement in self._site.before(tables):
            self._run(statement)
        zone = self._site.zone()
        kept = self._told_of_brought(standing)
        self._refuse_dependents()
        strange = self._view_old(tables)
        drops = (*strange, *(str(row["name"]) for row in self._named("list_drops")))
        self._named("convert_jobs")
        self._named("convert_keys")
        self._refuse_unconvertible()
        counts = dict(self._named("count_changed_jobs")[0]) | dict(self._named("count_changed_keys")[0])
        superseded = counts["key_repeated"] + counts["key_unaskable"]
        self._replace(standing, tables, superseded=superseded > 0)
        return self._report(
            BEFORE_VERSIONS,
            steps=(
                f"convert {counts['jobs']} jobs and {counts['keys']} idempotency keys into temporary tables; {zone}",
                f"drop {' and '.join(tables)}, and with them what is listed below",
                *(f"make version {n} of the schema" for n in range(1, self._known + 1)),
                f"store the jobs, {counts['keys'] - superseded} keys, and {superseded} superseded keys",
                "let new ids begin after the old ones",
            ),
            counts=counts,
            drops=drops,
            kept=kept,
        )

    def _replace(self, standing: Standing, tables: Sequence[str], *, superseded: bool) -> None:
        counter = self._site.id_counter
        last = dict(self._named("last_ids")[0]) if counter is None or counter in standing.contents else {}
        rights = self._named("list_rights") if self._site.has_owners else []
        for name in ("forget_old_jobs", "forget_old_keys", *(f"drop_{table}" for table in tables)):
            self._named(name)
        self._make_schema(BEFORE_VERSIONS, standing)  # impl: PS-MIGRATION-4
        self._named("store_jobs")
        self._named("store_keys")
        if superseded:
            self._named("create_superseded_table")
            self._named("store_superseded_keys")
        if counter is not None:
            self._named("forget_last_ids")
        self._named("set_last_job_id", {"last": last.get("job_id") or 0})
        self._named("set_last_key_id", {"last": last.get("key_id") or 0})
        for right in rights:
            self._run(Statement("restore_rights", right["sql"].replace("%", "%%")))

    def _view_old(self, tables: list[str]) -> list[str]:
        """Make the views of the old tables; the columns in them that nobody knows."""
        found: dict[str, dict[str, str]] = {JOB_TABLE: {}, KEY_TABLE: {}}
        for row in self._named("list_columns"):
            found[row["table_name"]][row["name"]] = row["type"]
        strange = []
        for table, (view, wanted) in _VIEWS.items():
            if table in tables and (missing := _REQUIRED[table] - found[table].keys()):
                raise SchemaError(
                    f"{self._site.place.name} has a table {table} without {', '.join(sorted(missing))}, which no "
                    "version of the program made: bring it into the known form, or rename it"
                )
            columns = ", ".join(
                f"{self._site.old_column(name, kind, found[table].get(name))} AS {name}"
                for name, kind in wanted.items()
            )
            source = f"FROM {table}" if table in tables else "WHERE 1 = 0"
            self._run(Statement("view_old", f"CREATE TEMP VIEW {view} AS SELECT {columns} {source}"))
            strange += [f"column {table}.{name}" for name in found[table] if name not in wanted]
        return strange

    def _refuse_dependents(self) -> None:
        obstacles = [str(row["obstacle"]) for row in self._named("list_obstacles")] if self._site.has_owners else []
        if obstacles:  # impl: PS-MIGRATION-9
            raise SchemaError(f"{self._site.place.name}: {'; '.join(obstacles)}")
        dependents = [str(row["name"]) for row in self._named("list_dependents")]
        if dependents:  # impl: PS-MIGRATION-9
            raise SchemaError(
                f"{self._site.place.name}: {', '.join(dependents)} refers to {JOB_TABLE} or {KEY_TABLE}, which a "
                "migration drops and makes anew: drop the reference, migrate, then make it again"
            )

    def _refuse_unconvertible(self) -> None:
        complaints = self._named("list_complaints", {"limit": COMPLAINTS_SHOWN})
        number = complaints[0]["complaints"] if complaints else 0
        if not complaints:
            for number, complaint in enumerate(self._unreadable(), start=1):
                complaints += [complaint] if number <= COMPLAINTS_SHOWN else []
        if complaints:
            rows = "; ".join(f"{row['kind']} {row['id']}: {row['complaint']}" for row in complaints)
            more = f"; and {number - COMPLAINTS_SHOWN} more" if number > COMPLAINTS_SHOWN else ""
            raise SchemaError(
                f"{self._site.place.name}: nothing was changed, since {number} {'rows' if number > 1 else 'row'} "
                f"cannot be converted ({rows}{more}): mend or delete them, then migrate"
            )

    def _unreadable(self) -> Iterator[Row]:
        """A complaint for each job with JSON that the store could not read or write."""
        suspects = self._named("list_suspects")
        if suspects:
            self._named("find_jobs_by_id")
        for suspect in suspects:  # one by one: there may be many, and each may be large
            (texts,) = self._named("read_suspect", {"id": suspect["id"]})
            for name in ("payload", "result"):
                if texts[name] is not None and (what := trouble_with(texts[name])):  # impl: PS-MIGRATION-9
                    yield {"kind": "job", "id": suspect["id"], "complaint": f"the {name} {what}"}
                    break

    def _make_schema(self, found: int, standing: Standing) -> None:
        kept = brought(standing.contents)
        for statements in self._site.schema[found:]:
            for statement in statements:
                if belongs_to(statement.name) not in kept:  # impl: PS-MIGRATION-10
                    self._run(statement)

    def _standing(self) -> Standing:
        return self._standing_of([str(row["name"]) for row in self._run(self._site.list_contents)])

    def _standing_of(self, contents: Sequence[str]) -> Standing:
        version = self._run(SCHEMA_VERSION)[0]["version"] if SCHEMA_TABLE in contents else None
        return Standing(contents=contents, version=version, known=self._known)

    def _named(self, name: str, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        return self._run(self._site.statements[name], parameters)

    def _run(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Row]:
        return self._site.session.run(statement, parameters)

    def _report(
        self,
        found: int | None,
        *,
        steps: tuple[str, ...] = (),
        counts: Mapping[str, int] | None = None,
        drops: tuple[str, ...] = (),
        kept: tuple[str, ...] = (),
    ) -> MigrationReport:
        counts = counts or {}
        return MigrationReport(
            place=self._site.place.name,
            dry_run=self._dry_run,
            from_version=found,
            to_version=self._known,
            steps=steps,
            jobs=counts.get("jobs", 0),
            keys=counts.get("keys", 0),
            changes={name: counts[name] for name in CHANGES if counts.get(name)},
            drops=drops,
            kept=kept,
            locks=self._site.locks if steps else (),
            seconds=time.monotonic() - self._begun,
            measured=self._site.measured if self._dry_run else "measured",
        )
