"""The races: each takes an arena and a number of rounds, and says what else is worth knowing about how it went.

A race only brings processes together, and notes what it can see itself: that one of them won. What the calls mean is
for the judges to say, when all is over.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.harness.history import Seen, Told
from tests.harness.recorder import Home
from tests.processes.arena import Arena, Race
from tests.processes.participant import LONG_LEASE_SECONDS, Participant

SECOND: Final = 1_000
USERS: Final = (None, "ann", "bob")
DRAWN_PRIORITIES: Final = (3, 7)


def one_job(arena: Arena, rounds: int) -> str:
    """All acquire the one job at the same moment; who gets it has its lock, where there are locks, and completes it."""
    wins: Counter[int] = Counter()
    for _ in range(rounds):
        job = arena.create()
        answers = dict(enumerate(arena.together(Participant.acquire_at_once, LONG_LEASE_SECONDS)))
        if arena.locked(job.id) is not arena.has_locks:
            arena.found("PS-LOCKS-1", f"job {job.id} was taken {'without' if arena.has_locks else 'with'} its lock")
        wins[_settle(arena, job, answers)] += 1
        arena.tick(1)
    return f"won by {_shares(wins)}"


def drain(arena: Arena, rounds: int) -> str:
    """All take jobs until there are none; they complete, fail or release them; then the clock goes on, and again.

    The jobs are made under a clock that jumps to and fro, so that what was made first has not the lowest id.
    """
    dice = random.Random(arena.setting.seed)  # noqa: S311 - these dice decide nothing secret, and must be thrown again
    taken: Counter[int] = Counter()
    for _ in range(rounds):
        began = arena.clock.now_milliseconds()
        for _ in range(arena.jobs):
            arena.tick_to(began + dice.randrange(arena.jobs))
            arena.create(priority=dice.randint(*DRAWN_PRIORITIES))
        arena.tick_to(began + arena.jobs)
        while any(found := arena.together(Participant.drain)):
            taken.update(dict(enumerate(found)))
            arena.tick(10 * SECOND)  # longer than the back-off of the second attempt, shorter than that of the last
        arena.finish()
    return f"taken by {_shares(taken)}"


def reclaim(arena: Arena, rounds: int) -> str:
    """The holder stands still; nobody gets its job until the lease ends, in the middle of everybody's calls."""
    wins: Counter[int] = Counter()
    for _ in range(rounds):
        job, held = _held_by_umpire(arena)
        expiry = held.leased_until or 0
        arena.tick_to(expiry - 1)
        arena.together(Participant.acquire_at_once, LONG_LEASE_SECONDS)
        arena.begin(Participant.acquire_until, expiry)
        arena.tick_to(expiry)
        answers = _answers(arena)
        arena.umpire.complete(held.id, held.token)  # too late: the judges see to it
        wins[_settle(arena, job, answers, token=held.token + 1)] += 1
    return f"won by {_shares(wins)}"


def locked_job(arena: Arena, rounds: int) -> str:
    """A job is back in the queue, and somebody who lost it has not yet given back its lock: it is kept for him.

    Until he learns that his lease was lost nobody gets it, where there are locks; then one does.
    """
    wins: Counter[int] = Counter()
    for turn in range(rounds):
        job, held = _held_by_umpire(arena)
        arena.tick_to(held.leased_until or 0)
        number = turn % len(arena.pool.numbers)
        reclaimed = arena.ask(number, Participant.acquire, LONG_LEASE_SECONDS).job
        assert reclaimed is not None, "the lease had ended, and one worker was alone"
        arena.ask(number, Participant.release, reclaimed)
        answers = dict(enumerate(arena.together(Participant.acquire_at_once, LONG_LEASE_SECONDS)))
        if arena.has_locks and any(told.job for told in answers.values()):
            arena.found("PS-LOCKS-6", f"job {job.id} was given out while somebody else had its lock")
        arena.umpire.renew(held.id, held.token, LONG_LEASE_SECONDS)
        if not any(told.job for told in answers.values()):
            answers = dict(enumerate(arena.together(Participant.acquire_at_once, LONG_LEASE_SECONDS)))
        wins[_settle(arena, job, answers, token=reclaimed.token + 1)] += 1
    return f"won by {_shares(wins)}"


def renew_or_reclaim(arena: Arena, rounds: int) -> str:
    """The lease has ended, and its holder renews it while all try to take the job."""
    return _rivals(arena, rounds, lambda held: arena.umpire.renew(held.id, held.token, LONG_LEASE_SECONDS), "renewed")


def complete_or_reclaim(arena: Arena, rounds: int) -> str:
    """The lease has ended, and its holder completes the job while all try to take it."""
    return _rivals(arena, rounds, lambda held: arena.umpire.complete(held.id, held.token), "completed")


def release_or_reclaim(arena: Arena, rounds: int) -> str:
    """The lease has ended, and its holder gives the job back while all try to take it."""
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        job, held = _held_by_umpire(arena)
        arena.tick_to(held.leased_until or 0)
        arena.begin(Participant.acquire_at_once, LONG_LEASE_SECONDS)
        released = arena.umpire.release(held.id, held.token).kind == "applied"
        answers = _answers(arena)
        outcomes["released" if released else "reclaimed"] += 1
        if released and not any(told.job for told in answers.values()):
            answers[0] = arena.ask(0, Participant.acquire, LONG_LEASE_SECONDS)  # all came while the row was held
        _settle(arena, job, answers, token=held.token + 1)
    return _told(outcomes)


def zombie(arena: Arena, rounds: int) -> str:
    """A holder is stopped past its lease, and its job goes to another; continued, it tries all that a holder may."""
    for turn in range(rounds):
        number = turn % len(arena.pool.numbers)
        job = arena.create()
        held = arena.ask(number, Participant.acquire, 1).job
        assert held is not None, "there was a job, and one worker alone"
        arena.pool.stop(number)
        arena.tick_to(held.leased_until or 0)
        others = [one for one in arena.pool.numbers if one != number]
        for one in others:
            arena.pool.ask(one, Participant.acquire, LONG_LEASE_SECONDS)
        answers = {one: arena.pool.answer(one) for one in others}
        arena.pool.resume(number)
        arena.faults.stops += 1
        arena.ask(number, Participant.try_everything, held)  # while its successor holds the job, ...
        arena.pool.ask(number, Participant.try_everything, held)  # ... and while it ends it
        _settle(arena, job, answers, token=held.token + 1)
        arena.pool.answer(number)
        if arena.umpire.database.count_jobs(status="completed") <= turn:
            arena.umpire.cancel(job.id)  # a store that obeyed the zombie; its next round is to have one job, too
    return f"{arena.faults.stops} stopped past the lease"


def reclaim_in_real_time(arena: Arena, rounds: int) -> str:
    """A lease of a second, and nobody moves the clock: all try from its beginning until after its end."""
    wins: Counter[int] = Counter()
    for _ in range(rounds):
        job, held = _held_by_umpire(arena)
        # A database may know the end of the lease to the microsecond, and we to the millisecond: later is certain.
        arena.begin(Participant.acquire_until, (held.leased_until or 0) + 1)
        answers = _answers(arena)
        arena.umpire.complete(held.id, held.token)
        wins[_settle(arena, job, answers, token=held.token + 1)] += 1
    return f"won by {_shares(wins)}"


def record(arena: Arena, rounds: int) -> str:
    """All record one key for each of some users, and for nobody."""
    for number in range(rounds):
        arena.together(Participant.record, "job", f"key {number}", USERS)
        arena.tick(1)
    return f"{len(USERS)} scopes"


def create_once(arena: Arena, rounds: int) -> str:
    """All make one job, project, prompt and optimization for a key; in the end there is one of each for each key.

    Each of them is told of it: here nobody is in the way for so long that an error would be an answer.
    """
    database = arena.umpire.database
    project = database.create_project("home")
    home = Home(project["id"], database.create_prompt(project_id=project["id"], name="home")["id"])
    for number in range(rounds):
        arena.together(Participant.create_once, f"key {number}", "ann", home)
        arena.tick(1)
    made = {
        "project": database.list_projects(user_id="ann")["pagination"]["total"],
        "prompt": database.list_prompts(home.project_id)["pagination"]["total"] - 1,
        "optimization": database.list_optimizations()["pagination"]["total"],
        "job": database.count_jobs(job_type="evaluation"),
        "optimization's job": database.count_jobs(job_type="optimization"),
    }
    for kind, total in made.items():
        if total != rounds:
            arena.found("INV-ONE-EFFECT-PER-KEY", f"{total} of {kind} for {rounds} keys")
    for call in arena.history().of("once"):
        if call.told is None or call.told.kind != "made":
            arena.found("PS-IDEMPOTENCY-PG-5", f"it was told of no entity: {call}")
    arena.finish()
    return f"{rounds} keys, {len(made)} rows each"


def _held_by_umpire(arena: Arena) -> tuple[Seen, Seen]:
    """Make a job, and be its holder, for a second."""
    job = arena.create()
    held = arena.umpire.acquire(1).job
    assert held is not None, "there was a job, and the umpire alone"
    assert held.id == job.id, "the umpire got an old job: an earlier round has not ended"
    return job, held


def _rivals(arena: Arena, rounds: int, move: Callable[[Seen], Told], done: str) -> str:
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        job, held = _held_by_umpire(arena)
        arena.tick_to(held.leased_until or 0)
        arena.begin(Participant.acquire_at_once, LONG_LEASE_SECONDS)
        moved = move(held)
        answers = _answers(arena)
        if moved.kind == "applied":
            outcomes[done] += 1
            for told in (told for told in answers.values() if told.job is not None):
                arena.found("INV-SINGLE-HOLDER", f"job {job.id} was {done} by its holder, and reclaimed: {told}")
            arena.umpire.complete(held.id, held.token)
        else:
            outcomes["reclaimed"] += 1
            _settle(arena, job, answers, token=held.token + 1)
    return _told(outcomes)


def _told(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))


def _answers(arena: Arena) -> dict[int, Told]:
    return {number: arena.pool.answer(number) for number in arena.pool.numbers}


def _settle(arena: Arena, job: Seen, answers: dict[int, Told], *, token: int = 1) -> int:
    """See that one got the job, under this token, and let it complete it. Who got it, or -1."""
    winners = [(number, told.job) for number, told in answers.items() if told.job is not None]
    if len(winners) > 1:
        arena.found("INV-SINGLE-HOLDER", f"job {job.id} was got by workers {[number for number, _ in winners]}")
    if not winners:
        arena.found("INV-NONE-IS-EMPTY", f"job {job.id} was got by nobody: {', '.join(map(str, answers.values()))}")
    for number, got in winners:
        if (got.id, got.token) != (job.id, token):
            arena.found("INV-TOKEN-GROWS", f"worker {number} got token {got.token} of job {got.id}, not {token}")
        arena.ask(number, Participant.complete, got)
    return winners[0][0] if winners else -1


def _shares(wins: Counter[int]) -> str:
    return " : ".join(str(wins[number]) for number in sorted(wins))


RACES: Final[tuple[Race, ...]] = (
    one_job,
    drain,
    reclaim,
    locked_job,
    renew_or_reclaim,
    complete_or_reclaim,
    release_or_reclaim,
    zombie,
    reclaim_in_real_time,
    record,
    create_once,
)
"""All but the storm."""
