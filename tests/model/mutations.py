"""Rules that are wrong in one place, each with the promise that must notice, in the world where it shows.

A mutation is a function that breaks the model by monkeypatching. Where a rule is data (the table, the effects), its
entry is replaced; where it is a function, a wrapper spoils what the function gives.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from prompt_studio_model import idempotency, leases, locks, step, table
from prompt_studio_model import operations as op
from prompt_studio_model.state import TERMINAL, IdempotencyRow, Job, Settings, State
from prompt_studio_model.table import RUNNING

Handled = tuple[State, op.Response]
Break = Callable[[pytest.MonkeyPatch], None]


class Mutation(NamedTuple):
    """One wrong rule. `noticed` is the promise that must be among the broken ones."""

    rule: str
    world: str
    noticed: str
    apply: Break


def _decides(operation: str, situations: str, credential: str, decision: str) -> Break:
    """Decide otherwise than the table."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for found in situations.split():
            patch.setitem(table.TABLE, (operation, found, credential), decision)

    return apply


def _has_effect(operation: str, effect: Callable[[Settings, Job, int, Any], Job], *, tokenless: bool = False) -> Break:
    """Change the row otherwise."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        effects = list(leases.EFFECTS[operation])
        effects[tokenless] = effect
        patch.setitem(leases.EFFECTS, operation, tuple(effects))

    return apply


def _is_handled(call: type[op.Invocation], spoil: Callable[[Settings, State, Any, Handled], Handled]) -> Break:
    """Spoil what a call of this kind leads to."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = step.HANDLERS[call]

        def wrong(settings: Settings, state: State, asked: op.Invocation) -> Handled:
            return spoil(settings, state, asked, right(settings, state, asked))

        patch.setitem(step.HANDLERS, call, wrong)

    return apply


def _is(owner: object, name: str, wrong: Callable[..., object]) -> Break:
    """Replace a function; `wrong` is given the right one before its arguments."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = getattr(owner, name)
        patch.setattr(owner, name, lambda *arguments: wrong(right, *arguments))

    return apply


def _overwrites(_: Settings, state: State, call: op.Record, __: Handled) -> Handled:
    rows = {row.scope: row for row in state.keys} | {call.scope: IdempotencyRow(call.scope, call.entity_id, state.now)}
    return state._replace(keys=tuple(rows.values())), op.Recorded(call.entity_id, created=True)


def _leaves_nobody_unprotected(_: Settings, state: State, call: op.Record, right: Handled) -> Handled:
    if call.scope.user_id is not None:
        return right
    row = IdempotencyRow(call.scope, call.entity_id, state.now)
    return state._replace(keys=(*state.keys, row)), op.Recorded(call.entity_id, created=True)


def _asks_everybody(_: Settings, state: State, call: op.Lookup, __: Handled) -> Handled:
    found = [row.entity_id for row in state.keys if row.scope[:2] == call.scope[:2]]
    return state, op.Number(found[0] if found else None)


def _deletes_what_has_just_ended(_: Settings, state: State, call: op.Cleanup, __: Handled) -> Handled:
    kept = tuple(
        job for job in state.jobs if job.status not in TERMINAL or (job.completed_at or 0) > state.now - call.age
    )
    return state._replace(jobs=kept), op.Number(len(state.jobs) - len(kept))


def _tells_of_another(_: Settings, state: State, __: op.Acquire, right: Handled) -> Handled:
    told = isinstance(right[1], op.Row) and right[1].job is not None
    return right[0], op.Row(state.jobs[0]) if told else right[1]


def _takes_two(settings: Settings, _: State, call: op.Acquire, right: Handled) -> Handled:
    return leases.acquire(settings, right[0], call)[0], right[1]


def _ignores_types(settings: Settings, state: State, call: op.Acquire, _: Handled) -> Handled:
    return leases.acquire(settings, state, op.Acquire(session=call.session, owner=call.owner, lease=call.lease))


def _creates_twice(settings: Settings, _: State, call: op.Create, right: Handled) -> Handled:
    return leases.create(settings, right[0], call)[0], right[1]


def _stops_while_a_lock_is_held(settings: Settings, state: State, _: op.Acquire, right: Handled) -> Handled:
    held = settings.advisory_locks and any(session.locks for session in state.sessions)
    return (state, op.Row(None)) if held else right


def _takes_anybodys_lock(_: object, settings: Settings, *__: object) -> locks.Gate:
    return "taken" if settings.advisory_locks else "open"


def _protects_an_expired_row(_: object, settings: Settings, state: State, name: str, job: Job, __: int) -> locks.Gate:
    if not settings.advisory_locks:
        return "open"
    return "taken" if locks.holder(state, job.id) in {None, name} else "refused"


def _never_loses_patience(right: Any, settings: Settings, *rest: object) -> object:  # noqa: ANN401 - a function
    return right(settings._replace(patience=10**9), *rest)


def _requeued(_: Settings, job: Job, now: int, __: object) -> Job:
    return leases.requeue(job, now, error=None, result=None)


def _claims_only(_: Settings, state: State, __: op.CreateOnce, right: Handled) -> Handled:
    return right[0]._replace(jobs=state.jobs, next_id=state.next_id), right[1]


def _makes_only(_: Settings, state: State, __: op.CreateOnce, right: Handled) -> Handled:
    return right[0]._replace(keys=state.keys), right[1]


def _makes_again(_: Settings, state: State, call: op.CreateOnce, right: Handled) -> Handled:
    if right[0] != state or not isinstance(right[1], op.Made):
        return right
    after, job = leases.insert(state, call)
    return after, op.Made(job, created=True)


def _takes_any_request(settings: Settings, state: State, call: op.CreateOnce, _: Handled) -> Handled:
    row = idempotency.live_row(settings, state, call.scope)
    same = call if row is None or row.fingerprint is None else replace(call, fingerprint=row.fingerprint)
    return idempotency.create(settings, state, same)


def _makes_what_is_gone(_: Settings, state: State, call: op.CreateOnce, right: Handled) -> Handled:
    if right[1] != op.Gone():
        return right
    after, job = leases.insert(state, call)
    return after, op.Made(job, created=True)


def _shares_with_everybody(settings: Settings, state: State, call: op.CreateOnce, _: Handled) -> Handled:
    found = [row.scope for row in state.keys if row.scope[:2] == call.scope[:2]]
    return idempotency.create(settings, state, replace(call, scope=found[0]) if found else call)


MUTATIONS: Final = (
    Mutation(
        "a stale completion is accepted",
        "leases",
        "INV-SINGLE-HOLDER",
        _decides("complete", RUNNING, "stale", "applied"),
    ),
    Mutation(
        "a stale failure writes its error",
        "leases",
        "INV-RESULT-FENCED",
        _decides("fail", RUNNING, "stale", "applied"),
    ),
    Mutation(
        "an old holder's heartbeat is accepted",
        "tiny",
        "INV-SINGLE-HOLDER",
        _decides("renew", RUNNING, "stale", "applied"),
    ),
    Mutation(
        "a token is given twice",
        "leases",
        "INV-TOKEN-GROWS",
        _is(leases, "claim", lambda right, job, *rest: right(job, *rest)._replace(lease_token=max(job.lease_token, 1))),
    ),
    Mutation(
        "an acquire tells of another job than it took",
        "order",
        "INV-TOKEN-GROWS",
        _is_handled(op.Acquire, _tells_of_another),
    ),
    Mutation("an acquire takes two jobs", "order", "INV-TOKEN-GROWS", _is_handled(op.Acquire, _takes_two)),
    Mutation(
        "a cancelled job keeps its lease",
        "leases",
        "INV-LEASE-FIELDS",
        _has_effect(
            "cancel", lambda _, job, now, __: job._replace(status="cancelled", completed_at=now), tokenless=True
        ),
    ),
    Mutation(
        "a completed job can be cancelled",
        "leases",
        "INV-TERMINAL-ABSORBS",
        _decides("cancel", "completed", "none", "applied"),
    ),
    Mutation(
        "an operator's retry revives a completed job",
        "leases",
        "INV-TERMINAL-ABSORBS",
        _decides("retry", "completed", "none", "applied"),
    ),
    Mutation(
        "exhaustion gives another reason",
        "order",
        "INV-RESULT-FENCED",
        lambda patch: patch.setattr(leases, "EXHAUSTED_ERROR", "something else"),
    ),
    Mutation(
        "a shorter renewal takes time away",
        "beats",
        "INV-LEASE-MONOTONE",
        _has_effect("renew", lambda _, job, now, call: job._replace(leased_until=now + call.lease)),
    ),
    Mutation(
        "renewals add up",
        "leases",
        "INV-LEASE-MONOTONE",
        _has_effect("renew", lambda _, job, __, call: job._replace(leased_until=(job.leased_until or 0) + call.lease)),
    ),
    Mutation(
        "a live lease is reclaimed",
        "order",
        "INV-NO-EARLY-RECLAIM",
        _is(Job, "eligible", lambda _, job, __: job.status not in TERMINAL and job.executions < job.execution_limit),
    ),
    Mutation(
        "a delayed job is taken",
        "leases",
        "INV-CLAIM-ORDER",
        _is(Job, "eligible", lambda right, job, now: job.status == "queued" or right(job, now)),
    ),
    Mutation(
        "the lowest id goes first", "order", "INV-CLAIM-ORDER", _is(leases, "claim_order", lambda _, job: (job.id,))
    ),
    Mutation("every type is wanted", "order", "INV-CLAIM-ORDER", _is_handled(op.Acquire, _ignores_types)),
    Mutation(
        "at its very end a lease is neither live nor expired",
        "leases",
        "INV-NONE-IS-EMPTY",
        _is(Job, "expired", lambda _, job, now: job.leased_until is not None and job.leased_until < now),
    ),
    Mutation(
        "a lock protects an expired row",
        "locks",
        "INV-NONE-IS-EMPTY",
        _is(locks, "gate", _protects_an_expired_row),
    ),
    Mutation(
        "a dead host's lock strands a queued job",
        "locks",
        "INV-NONE-IS-EMPTY",
        _is(locks, "gate", _never_loses_patience),
    ),
    Mutation(
        "a release does not give the execution back",
        "leases",
        "INV-EXECUTIONS-BOUNDED",
        _has_effect("release", _requeued),
    ),
    Mutation(
        "an operator's retry does not raise the limit",
        "leases",
        "INV-EXECUTIONS-BOUNDED",
        _has_effect("retry", _requeued, tokenless=True),
    ),
    Mutation(
        "an operator's requeue gives the execution back",
        "leases",
        "INV-EXECUTIONS-BOUNDED",
        _has_effect(
            "update_queued",
            lambda _, job, now, __: leases.requeue(job, now, executions=job.executions - 1),
            tokenless=True,
        ),
    ),
    Mutation(
        "a closing call does not unlock",
        "locks",
        "INV-LOCKS-MATCH",
        _is(locks, "give_back", lambda _, state, *__: state),
    ),
    Mutation("two sessions hold one lock", "locks", "INV-LOCKS-MATCH", _is(locks, "gate", _takes_anybodys_lock)),
    Mutation(
        "the last writer of a key wins",
        "keys",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.Record, _overwrites),
    ),
    Mutation(
        "nobody's key is not protected",
        "keys",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.Record, _leaves_nobody_unprotected),
    ),
    Mutation(
        "a crash leaves the key without the job",
        "creates",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.CreateOnce, _claims_only),
    ),
    Mutation(
        "a crash leaves the job without the key",
        "creates",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.CreateOnce, _makes_only),
    ),
    Mutation("a replay makes another job", "creates", "INV-REPLAY-SAFE", _is_handled(op.CreateOnce, _makes_again)),
    Mutation(
        "another request is told of the first one's job",
        "creates",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.CreateOnce, _takes_any_request),
    ),
    Mutation(
        "a deleted job is made again",
        "creates",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.CreateOnce, _makes_what_is_gone),
    ),
    Mutation(
        "a create leaves the user out",
        "creates",
        "INV-NO-CROSS-USER",
        _is_handled(op.CreateOnce, _shares_with_everybody),
    ),
    Mutation(
        "a clean-up deletes keys that count",
        "creates",
        "INV-ONE-EFFECT-PER-KEY",
        _is_handled(op.CleanupKeys, lambda _, state, __, ___: (state._replace(keys=()), op.Number(len(state.keys)))),
    ),
    Mutation("a lookup leaves the user out", "keys", "INV-NO-CROSS-USER", _is_handled(op.Lookup, _asks_everybody)),
    Mutation(
        "a key outlives its retention",
        "keys",
        "INV-NO-CROSS-USER",
        _is(idempotency, "live_row", lambda right, settings, *rest: right(settings._replace(retention=None), *rest)),
    ),
    Mutation(
        "cleanup deletes what has just ended",
        "leases",
        "INV-NOTHING-LOST",
        _is_handled(op.Cleanup, _deletes_what_has_just_ended),
    ),
    Mutation(
        "cleanup deletes what has not ended",
        "leases",
        "INV-NOTHING-LOST",
        _is_handled(op.Cleanup, lambda _, state, __, ___: (state._replace(jobs=()), op.Number(len(state.jobs)))),
    ),
    Mutation(
        "an unacknowledged create counts two",
        "unacknowledged",
        "INV-NOTHING-LOST",
        _is_handled(op.Create, _creates_twice),
    ),
    Mutation(
        "a repeated failure counts again",
        "leases",
        "INV-REPLAY-SAFE",
        _decides("fail", "requeued", "current", "applied"),
    ),
    Mutation(
        "a repeated completion writes again",
        "leases",
        "INV-REPLAY-SAFE",
        _decides("complete", "completed", "current", "applied"),
    ),
    Mutation(
        "with advisory locks on, the answer is another",
        "locks",
        "INV-BACKENDS-AGREE",
        _is_handled(op.Acquire, _stops_while_a_lock_is_held),
    ),
)
