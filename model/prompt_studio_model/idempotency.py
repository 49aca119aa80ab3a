"""Idempotency keys: the first writer of a scope wins, everybody is told the same entity.

A scope is (entity type, key, user), and all three parts count: equal keys of two users, or of a user and of nobody, are
different scopes. A row older than the retention counts as absent and is replaced by the next record.
"""

from prompt_studio_model import operations as op
from prompt_studio_model.state import IdempotencyRow, Scope, Settings, State


def live_row(settings: Settings, state: State, scope: Scope) -> IdempotencyRow | None:
    """Return the row that counts for this scope, or None."""
    for row in state.keys:
        if row.scope == scope:
            over = settings.retention is not None and row.created_at + settings.retention <= state.now
            return None if over else row
    return None


def lookup(settings: Settings, state: State, call: op.Lookup) -> tuple[State, op.Response]:
    """Return the canonical entity of the scope, or None."""
    row = live_row(settings, state, call.scope)
    return state, op.Number(None if row is None else row.entity_id)


def record(settings: Settings, state: State, call: op.Record) -> tuple[State, op.Response]:
    """Record the mapping unless the scope has one; say which entity is canonical and whether this call made it so."""
    row = live_row(settings, state, call.scope)
    if row is not None:
        return state, op.Recorded(row.entity_id, created=False)
    rows = {row.scope: row for row in state.keys} | {call.scope: IdempotencyRow(call.scope, call.entity_id, state.now)}
    return state._replace(keys=tuple(rows.values())), op.Recorded(call.entity_id, created=True)
