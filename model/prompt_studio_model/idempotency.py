"""Idempotency keys: the first writer of a scope wins, everybody is told the same entity.

A scope is (entity type, key, user), and all three parts count: equal keys of two users, or of a user and of nobody, are
different scopes. A row older than the retention counts as absent and is replaced by the next record.

A create with a key is one step: the key's row, the job and the fingerprint of the request are there together, or none.
"""

from prompt_studio_model import leases
from prompt_studio_model import operations as op
from prompt_studio_model.state import IdempotencyRow, Scope, Settings, State


def live(settings: Settings, state: State, row: IdempotencyRow) -> bool:
    """Say whether the row counts: it is absent from the very end of its retention on."""
    return settings.retention is None or state.now < row.created_at + settings.retention


def live_row(settings: Settings, state: State, scope: Scope) -> IdempotencyRow | None:
    """Return the row that counts for this scope, or None."""
    for row in state.keys:
        if row.scope == scope:
            return row if live(settings, state, row) else None
    return None


def _with_row(state: State, row: IdempotencyRow) -> State:
    """Return the state in which the row speaks for its scope; an expired one is replaced in its place."""
    return state._replace(keys=tuple(({one.scope: one for one in state.keys} | {row.scope: row}).values()))


def lookup(settings: Settings, state: State, call: op.Lookup) -> tuple[State, op.Response]:
    """Return the canonical entity of the scope, or None."""
    row = live_row(settings, state, call.scope)
    return state, op.Number(None if row is None else row.entity_id)


def record(settings: Settings, state: State, call: op.Record) -> tuple[State, op.Response]:
    """Record the mapping unless the scope has one; say which entity is canonical and whether this call made it so."""
    row = live_row(settings, state, call.scope)
    if row is not None:
        return state, op.Recorded(row.entity_id, created=False)
    made = IdempotencyRow(call.scope, call.entity_id, state.now)
    return _with_row(state, made), op.Recorded(call.entity_id, created=True)


def create(settings: Settings, state: State, call: op.CreateOnce) -> tuple[State, op.Response]:
    """Make the job and the row of its key, or tell of the job that the key stands for."""
    row = live_row(settings, state, call.scope)
    if row is None:
        after, job = leases.insert(state, call)
        return _with_row(after, IdempotencyRow(call.scope, job.id, state.now, call.fingerprint)), op.Made(
            job, created=True
        )
    if row.fingerprint not in {None, call.fingerprint}:
        return state, op.Mismatch()
    found = state.job(row.entity_id)
    return state, op.Gone() if found is None else op.Made(found, created=False)


def cleanup(settings: Settings, state: State, _: op.CleanupKeys) -> tuple[State, op.Response]:
    """Delete the rows that count no more."""
    kept = tuple(row for row in state.keys if live(settings, state, row))
    return state._replace(keys=kept), op.Number(len(state.keys) - len(kept))
