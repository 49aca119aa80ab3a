"""What is interleaved: small situations in which two or three calls meet. A new one is one entry.

The lanes a, b and c have a session each; the lanes `time` and `fate` belong to nobody.
"""

from typing import Any, Final

from prompt_studio_model import operations as op
from prompt_studio_model.state import Scope
from tests.harness.interleaving.scenario import Continue, CutOff, Kill, LoseAnswer, Mine, Scenario, Stop, signed

LEASE: Final = 1_000
REQUEST: Final = (1, None, "{}", "client")


def job(*, priority: int = 5, max_retries: int = 3) -> op.Create:
    """A job."""
    return op.Create(request=REQUEST, priority=priority, max_retries=max_retries)


def acquire(session: str, lease: int = LEASE) -> op.Acquire:
    """A claim, under the session's name."""
    return op.Acquire(session=session, owner=session, lease=lease)


def once(session: str, fingerprint: str = "one", user: str = "ann") -> op.CreateOnce:
    """A job that is made once for the key of a user."""
    scope = Scope("job", "key", user)
    return op.CreateOnce(session=session, request=REQUEST, scope=scope, fingerprint=fingerprint)


LEASED: Final = (job(), acquire("old"))
EXPIRED: Final = (*LEASED, op.Tick(milliseconds=LEASE))
BOUNDARY: Final = (*LEASED, op.Tick(milliseconds=LEASE - 1))
SPENT: Final = (job(max_retries=0), acquire("old"), op.Tick(milliseconds=LEASE))
TICK: Final = op.Tick(milliseconds=1)
ANN, BOB, NOBODY = (Scope("prompt", "key", user) for user in ("ann", "bob", None))
JOB_OF_ANN: Final = Scope("job", "key", "ann")
TOKEN: Final[dict[str, Any]] = {"job_id": 1, "token": 1}

FAILED: Final = (*LEASED, op.Fail(retryable=False, **TOKEN))

STOPPED: Final = (Stop("a"), op.Tick(milliseconds=LEASE), Continue("a"))
"""The process of lane a stands still until its lease is over."""

_TWO_SESSIONS: Final = (
    Scenario("acquire, acquire", (job(),), {"a": (acquire("a"),), "b": (acquire("b"),)}),
    Scenario("acquire, acquire, two jobs", (job(), job()), {"a": (acquire("a"),), "b": (acquire("b"),)}),
    Scenario("two reclaim", EXPIRED, {"a": (acquire("a"),), "b": (acquire("b"),)}),
    Scenario(
        "acquire one queued, one expired", (*EXPIRED, job(priority=9)), {"a": (acquire("a"),), "b": (acquire("b"),)}
    ),
    Scenario(
        "acquire, renew, at the boundary",
        BOUNDARY,
        {"a": (acquire("a"),), "b": (op.Renew(session="b", lease=LEASE, **TOKEN),), "time": (TICK,)},
    ),
    Scenario("renew, reclaim", EXPIRED, {"a": (acquire("a"),), "b": (op.Renew(session="b", lease=LEASE, **TOKEN),)}),
    Scenario(
        "renew, cancel",
        LEASED,
        {"a": (op.Renew(session="a", lease=LEASE, **TOKEN),), "b": (op.Cancel(session="b", job_id=1),)},
    ),
    Scenario(
        "renew, complete",
        LEASED,
        {"a": (op.Renew(session="a", lease=LEASE, **TOKEN),), "b": (op.Complete(session="b", **TOKEN),)},
    ),
    Scenario("complete, reclaim", EXPIRED, {"a": (acquire("a"),), "b": (op.Complete(session="b", **TOKEN),)}),
    Scenario(
        "fail, acquire",
        EXPIRED,
        {"a": (acquire("a"),), "b": (op.Fail(session="b", spread=500, **TOKEN),), "time": (op.Tick(milliseconds=500),)},
    ),
    Scenario("release, acquire", LEASED, {"a": (acquire("a"),), "b": (op.Release(session="b", **TOKEN),)}),
    Scenario("release, reclaim", EXPIRED, {"a": (acquire("a"),), "b": (op.Release(session="b", **TOKEN),)}),
    Scenario("release mine, acquire", (job(),), {"a": (acquire("a"), Mine(op.Release)), "b": (acquire("b"),)}),
    Scenario(
        "release mine, acquire, two jobs",
        (job(), job()),
        {"a": (acquire("a"), Mine(op.Release)), "b": (acquire("b"),)},
    ),
    Scenario("complete mine, acquire", (job(),), {"a": (acquire("a"), Mine(op.Complete)), "b": (acquire("b"),)}),
    Scenario(
        "cancel, create",
        (job(),),
        {
            "a": (op.Create(session="a", request=REQUEST),),
            "b": (op.Cancel(session="b", job_id=2),),
        },
    ),
    Scenario(
        "retry, acquire",
        FAILED,
        {"a": (acquire("a"),), "b": (op.Retry(session="b", job_id=1),)},
    ),
    Scenario(
        "cancel, complete",
        LEASED,
        {"a": (op.Cancel(session="a", job_id=1),), "b": (op.Complete(session="b", **TOKEN),)},
    ),
    Scenario(
        "cancel, retry",
        FAILED,
        {"a": (op.Cancel(session="a", job_id=1),), "b": (op.Retry(session="b", job_id=1),)},
    ),
    Scenario(
        "acquire, while a better one becomes available",
        (job(), op.Create(request=REQUEST, priority=9, available_at=1)),
        {"a": (acquire("a"),), "b": (acquire("b"),), "time": (TICK,)},
    ),
    Scenario("cancel, acquire", (job(),), {"a": (op.Cancel(session="a", job_id=1),), "b": (acquire("b"),)}),
    Scenario(
        "operator completes, complete",
        LEASED,
        {
            "a": (op.UpdateStatus(session="a", job_id=1, status="completed"),),
            "b": (op.Complete(session="b", **TOKEN),),
        },
    ),
    Scenario(
        "operator requeues, complete",
        LEASED,
        {
            "a": (op.UpdateStatus(session="a", job_id=1, status="queued"),),
            "b": (op.Complete(session="b", **TOKEN),),
        },
    ),
    Scenario(
        "acquire this job, acquire",
        (job(),),
        {
            "a": (op.UpdateStatus(session="a", job_id=1, status="processing", owner="a", lease=LEASE),),
            "b": (acquire("b"),),
        },
    ),
    Scenario(
        "acquire one type, acquire any",
        (job(), op.Create(request=REQUEST, job_type="generation")),
        {
            "a": (op.Acquire(session="a", owner="a", lease=LEASE, job_types=frozenset({"generation"})),),
            "b": (acquire("b"),),
        },
    ),
    Scenario(
        "renew by name, reclaim",
        EXPIRED,
        {"a": (acquire("a"),), "b": (op.Renew(session="b", job_id=1, owner="old", lease=LEASE),)},
    ),
    Scenario(
        "clean up, retry",
        (*FAILED, TICK),
        {"a": (op.Cleanup(session="a", age=0),), "b": (op.Retry(session="b", job_id=1),)},
    ),
    Scenario("clean up twice", (*FAILED, TICK), {name: (op.Cleanup(session=name, age=0),) for name in ("a", "b")}),
    Scenario("complete twice", LEASED, {name: (op.Complete(session=name, **TOKEN),) for name in ("a", "b")}),
    Scenario(
        "complete, fail",
        LEASED,
        {"a": (op.Complete(session="a", **TOKEN),), "b": (op.Fail(session="b", retryable=False, **TOKEN),)},
    ),
    Scenario(
        "record, record",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1),),
            "b": (op.Record(session="b", scope=ANN, entity_id=2),),
        },
    ),
    Scenario(
        "record, lookup",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1),),
            "b": (op.Lookup(session="b", scope=ANN), op.Lookup(session="b", scope=ANN)),
        },
    ),
    Scenario(
        "record, another user's",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1),),
            "b": (op.Record(session="b", scope=BOB, entity_id=2), op.Lookup(session="b", scope=BOB)),
        },
    ),
    Scenario(
        "record of a user, record of nobody",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1), op.Lookup(session="a", scope=NOBODY)),
            "b": (op.Record(session="b", scope=NOBODY, entity_id=2),),
        },
    ),
    Scenario("create once, create once", (), {name: (once(name),) for name in ("a", "b")}),
    Scenario("create once, another request", (), {"a": (once("a"),), "b": (once("b", "two"),)}),
    Scenario("create once, another user's", (), {"a": (once("a"),), "b": (once("b", "two", "bob"),)}),
    Scenario(
        "create once, lookup",
        (),
        {
            "a": (once("a"),),
            "b": (op.Lookup(session="b", scope=JOB_OF_ANN), op.Lookup(session="b", scope=JOB_OF_ANN)),
        },
    ),
    Scenario(
        "create once, record",
        (job(),),
        {"a": (once("a"),), "b": (op.Record(session="b", scope=JOB_OF_ANN, entity_id=1),)},
    ),
    Scenario("create once, while time goes on", (), {"a": (once("a"),), "time": (TICK,)}),
    Scenario("create once, acquire", (), {"a": (once("a"),), "b": (acquire("b"),)}),
    Scenario("exhaustion, renew", SPENT, {"a": (acquire("a"),), "b": (op.Renew(session="b", lease=LEASE, **TOKEN),)}),
    Scenario("exhaustion, complete", SPENT, {"a": (acquire("a"),), "b": (op.Complete(session="b", **TOKEN),)}),
    Scenario(
        "complete, stopped past the lease",
        LEASED,
        {"a": (op.Complete(session="a", **TOKEN),), "b": (acquire("b"),), "fate": STOPPED},
    ),
    Scenario(
        "renew, stopped past the lease",
        LEASED,
        {"a": (op.Renew(session="a", lease=LEASE, **TOKEN),), "b": (acquire("b"),), "fate": STOPPED},
    ),
    Scenario(
        "renew, missed beats, renew",
        LEASED,
        {"a": (op.Renew(session="a", lease=LEASE, **TOKEN),) * 2, "b": (acquire("b"),), "fate": STOPPED},
    ),
    Scenario(
        "acquire, stopped past the lease, complete",
        (job(),),
        {"a": (acquire("a"), Mine(op.Complete)), "b": (acquire("b"),), "fate": STOPPED},
    ),
    Scenario(
        "expire under a lock, acquire",
        (job(),),
        {"a": (acquire("a"),), "b": (acquire("b"),), "time": (op.Tick(milliseconds=LEASE),)},
    ),
    Scenario(
        "requeue under a lock, acquire past one's patience",
        (job(),),
        {
            "a": (acquire("a"),),
            "b": (
                op.UpdateStatus(session="b", job_id=1, status="queued"),
                acquire("b"),
                op.Tick(milliseconds=LEASE + 1),
                acquire("b"),
            ),
        },
    ),
    Scenario("claim, be killed, claim", (job(),), {"a": (acquire("a"),), "b": (acquire("b"),), "fate": (Kill("a"),)}),
    Scenario(
        "lose the session with a lock",
        (job(),),
        {"a": (acquire("a"), Mine(op.Complete)), "b": (acquire("b"),), "fate": (CutOff("a"),)},
    ),
    Scenario(
        "lose the session, and go on",
        (job(), job()),
        {"a": (acquire("a"), acquire("a"), acquire("a")), "fate": (CutOff("a"),)},
    ),
    Scenario(
        "create once beside another, be killed",
        (),
        {"a": (once("a"), once("a")), "b": (once("b"),), "fate": (Kill("a"),)},
    ),
)
_THREE_SESSIONS: Final = (
    Scenario("three acquire", (job(),), {name: (acquire(name),) for name in ("a", "b", "c")}),
    Scenario("three acquire two jobs", (job(), job()), {name: (acquire(name),) for name in ("a", "b", "c")}),
    Scenario(
        "record, record, lookup",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1),),
            "b": (op.Record(session="b", scope=ANN, entity_id=2),),
            "c": (op.Lookup(session="c", scope=ANN),),
        },
    ),
    Scenario("three create a job once", (), {name: (once(name),) for name in ("a", "b", "c")}),
    Scenario(
        "record, record, lookup, of two users",
        (),
        {
            "a": (op.Record(session="a", scope=ANN, entity_id=1),),
            "b": (op.Record(session="b", scope=ANN, entity_id=2),),
            "c": (op.Record(session="c", scope=BOB, entity_id=3), op.Lookup(session="c", scope=ANN)),
        },
    ),
    Scenario(
        "locked heads ahead of a free job",
        (job(priority=9), job(priority=8), job(priority=7)),
        {
            "a": (acquire("a"), Mine(op.Release)),
            "b": (acquire("b"), Mine(op.Fail, {"spread": 500})),
            "c": (acquire("c"),),
        },
    ),
)

TWO_SESSIONS: Final = tuple(map(signed, _TWO_SESSIONS))
THREE_SESSIONS: Final = tuple(map(signed, _THREE_SESSIONS))


def _killed(name: str, setup: tuple[op.Invocation, ...], call: op.Invocation) -> Scenario:
    return signed(Scenario(f"{name}, be killed, {name}", setup, {"a": (call, call), "fate": (Kill("a"),)}))


KILLED: Final = (
    _killed("complete", LEASED, op.Complete(session="a", **TOKEN)),
    _killed("create", (job(),), op.Create(session="a", request=REQUEST)),
    _killed("create once", (), once("a")),
    _killed("acquire", (job(), job()), acquire("a")),
    _killed("record", (), op.Record(session="a", scope=ANN, entity_id=1)),
    _killed("renew", LEASED, op.Renew(session="a", lease=2 * LEASE, **TOKEN)),
    _killed("fail", LEASED, op.Fail(session="a", spread=500, **TOKEN)),
    _killed("release", LEASED, op.Release(session="a", **TOKEN)),
    _killed("cancel", (job(),), op.Cancel(session="a", job_id=1)),
    _killed("retry", FAILED, op.Retry(session="a", job_id=1)),
    _killed("clean up", (*FAILED, TICK), op.Cleanup(session="a", age=0)),
)
"""A process is killed at each of its gates, and another one makes the same call again."""

LOST: Final = tuple(
    signed(Scenario(f"{name}, lose an answer, {name}", setup, {"a": (call, call), "fate": (LoseAnswer("a"),)}))
    for name, setup, call in (
        ("complete", LEASED, op.Complete(session="a", **TOKEN)),
        ("create", (job(),), op.Create(session="a", request=REQUEST)),
        ("create once", (), once("a")),
        ("acquire", (job(), job()), acquire("a")),
        ("record", (), op.Record(session="a", scope=ANN, entity_id=1)),
        ("fail", LEASED, op.Fail(session="a", spread=500, **TOKEN)),
        ("cancel", (job(),), op.Cancel(session="a", job_id=1)),
    )
)
"""Of each statement the answer is lost, that of a COMMIT too, and the same process makes the same call again."""

SCENARIOS: Final = (*TWO_SESSIONS, *THREE_SESSIONS, *KILLED, *LOST)


def ends_processes(scenario: Scenario) -> bool:
    """Whether a process or a session is ended in it, which takes a hundred times as long as a schedule."""
    return any(isinstance(move, Kill | CutOff | LoseAnswer) for moves in scenario.lanes.values() for move in moves)


LONG: Final = frozenset(
    {
        "acquire, stopped past the lease, complete",
        "clean up twice",
        "requeue under a lock, acquire past one's patience",
        "create once, another user's",
        "renew, missed beats, renew",
    }
)
"""Those of two sessions with too many orders for each run; `pytest -m soak` plays them all."""

ALIKE: Final = frozenset({"create once, create once", "create once, another request"})
"""Those of which most orders differ only by steps that may change places: one of each kind is played in each run."""

REDUCED: Final = tuple(one for one in TWO_SESSIONS if one.name in ALIKE)
"""The same, as scenarios. `pytest -m soak` plays every order of these, too."""

WHOLE: Final = tuple(
    one for one in TWO_SESSIONS if not ends_processes(one) and one.name not in LONG and one.name not in ALIKE
)
"""Those that are played in every order in each run."""
