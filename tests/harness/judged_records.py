"""Judges of what must be there in the end, once: jobs, keys and their entities; and of what must not be left: locks."""

from collections import Counter
from collections.abc import Iterator

from tests.harness.evidence import TERMINAL, Evidence, Finding
from tests.harness.history import Call, Scope


def nothing_lost(seen: Evidence) -> Iterator[Finding]:
    """Each acknowledged job is there once, each other row is a pending create's, and in the end no job is stuck."""
    names = ("INV-NOTHING-LOST",)
    given = Counter(call.job.id for call in seen.creates if call.job is not None)
    for call in seen.creates:
        job, row = call.job, None if call.job is None else seen.rows.get(call.job.id)
        if job is not None and given[job.id] > 1:
            yield Finding(names, "double", f"id {job.id} was given to {given[job.id]} jobs", (call,))
        if job is not None and row is None:
            yield Finding(names, "lost", f"job {job.id} was acknowledged, and is not there", (call,))
        elif job is not None and row is not None and (row.entity_id, row.priority) != (job.entity_id, job.priority):
            yield Finding(names, "lost", f"job {job.id} is not the job any more that was made", (call,))
    made = Counter(row.entity_id for row in seen.remains.jobs)
    asked = {
        call.asked.entity_id if call.job is None else call.job.entity_id: call
        for call in seen.history.of("create", "once")
        if call.pending or call.job is not None
    }
    for entity_id, rows in made.items():
        maker = (asked[entity_id],) if entity_id in asked else ()
        if rows > len(maker):
            yield Finding(names, "double", f"{rows} jobs of entity {entity_id}, and {len(maker)} were asked for", maker)
    if seen.remains.drained:
        yield from _stuck(seen)


def _stuck(seen: Evidence) -> Iterator[Finding]:
    for row in seen.remains.jobs:
        if row.status not in TERMINAL:
            sentence = f"job {row.id} is {row.status} (token {row.token}) though everything was to be drained"
            calls = [call for call in seen.history.calls if row.id in {call.asked.job_id, call.job and call.job.id}]
            yield Finding(("INV-NOTHING-LOST",), "stuck", sentence, tuple(calls))


def one_effect_per_key(seen: Evidence) -> Iterator[Finding]:
    """Of each scope there is one row; everybody was told its id, and one call that it made it, or has proposed it."""
    calls: dict[Scope, list[Call]] = {}
    for call in seen.history.of("record", "once", "lookup"):
        if call.asked.scope is not None:
            calls.setdefault(call.asked.scope, []).append(call)
    rows: dict[Scope, list[int]] = {scope: [] for scope in calls}
    for row in seen.remains.keys:
        rows.setdefault(row.scope, []).append(row.entity_id)
    for scope, entity_ids in rows.items():
        yield from _one_effect(scope, calls.get(scope, []), entity_ids)
    yield from _told_before(calls)


def _one_effect(scope: Scope, calls: list[Call], rows: list[int]) -> Iterator[Finding]:
    names = ("INV-ONE-EFFECT-PER-KEY",)
    told = [call for call in calls if call.told is not None and call.told.entity_id is not None]
    records = [call for call in calls if call.asked.operation in {"record", "once"}]
    pending = [call for call in records if call.pending]
    ids = {call.told.entity_id for call in told if call.told is not None} | set(rows)
    if len(rows) > 1:
        yield Finding(names, "double", f"{scope} has {len(rows)} rows: {rows}", tuple(records))
    if len(ids) > 1:
        yield Finding(names, "double", f"{scope} stands for {sorted(map(str, ids))}", tuple(told))
    if told and not rows:
        yield Finding(names, "lost", f"{scope} was recorded, and is not there", tuple(told))
    creators = [call for call in records if call.told is not None and call.told.created]
    if len(creators) > 1:
        yield Finding(names, "double", f"{len(creators)} calls were told that they recorded {scope}", tuple(creators))
    # What a create with a key has made, only its answer says: as long as one is pending, nobody knows.
    unknown = any(call.asked.operation == "once" for call in pending)
    if ids and not creators and not unknown and not {call.asked.entity_id for call in pending} & ids:
        yield Finding(names, "wrong", f"nobody was told that it recorded {scope}", tuple(records))
    foreign = ids - {call.asked.entity_id for call in records if call.asked.operation == "record"}
    foreign -= {call.told.entity_id for call in creators if call.told is not None and call.asked.operation == "once"}
    if foreign and not unknown:
        sentence = f"{scope} stands for {sorted(map(str, foreign))}, which nobody proposed for it"
        yield Finding(("INV-NO-CROSS-USER", *names), "wrong", sentence, tuple(calls))


def _told_before(calls: dict[Scope, list[Call]]) -> Iterator[Finding]:
    """Find lookups that saw nothing after a record of the same key had been answered."""
    for scope, ones in calls.items():
        records = [call for call in ones if call.told is not None and call.told.kind in {"recorded", "made"}]
        for call in ones:
            earlier = [one for one in records if one.before(call)]
            if call.told is not None and call.told.kind == "none" and earlier:
                sentence = f"{scope} had been recorded, and was not found"
                yield Finding(("INV-ONE-EFFECT-PER-KEY",), "lost", sentence, (earlier[0], call))


def schema_holds(seen: Evidence) -> Iterator[Finding]:
    """No call was refused by a rule of the schema, which is the last that stands between a mistake and the tables."""
    for call in seen.history.calls:
        if call.told is not None and call.told.broken is not None:
            yield Finding((call.told.broken,), "wrong", "the database refused what would have broken it", (call,))


def locks_match(seen: Evidence) -> Iterator[Finding]:
    """When all is quiet no advisory lock is left."""
    if seen.remains.locks_left:
        yield Finding(("INV-LOCKS-MATCH",), "stuck", f"{seen.remains.locks_left} advisory locks are left")
