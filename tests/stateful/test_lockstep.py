"""L1: each store does what the model says, one call at a time, and every pair of the table was witnessed doing it."""

import time
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prompt_studio_model import operations as op
from prompt_studio_model.state import Settings
from prompt_studio_model.witnesses import LEASES, LOCKS, tie, two_scopes
from prompt_studio_model.worlds import SHORT
from tests.harness.adapter import SECOND
from tests.harness.certificate import Certificate, Conformance
from tests.harness.explorations import shortest_ways, signatures
from tests.harness.lockstep import Lockstep
from tests.harness.pairs import ALL_PAIRS, signature
from tests.harness.plugin import CERTIFICATE
from tests.harness.stores import STORES, Store
from tests.stateful.generating import generate
from tests.stateful.machine import QueueMachine

pytestmark = [pytest.mark.stateful, pytest.mark.conformance]

RETENTION_SECONDS = 100
PLAYED = ("leases", "order", "keys", "creates")
PLAYED_WITH_LOCKS = "locks"
WITNESSES_WITHOUT_LOCKS = frozenset(promise.id for promise in (*LEASES, tie, two_scopes))
WITNESSES_OF_LOCKS = frozenset(promise.id for promise in LOCKS)
PATIENCE_SECONDS = 5
PATIENCE_TICKS = SHORT.patience or 0


@pytest.fixture(scope="module", params=STORES, ids=lambda store: store.name)
def store(request: pytest.FixtureRequest) -> Store:
    chosen: Store = request.param
    return chosen


@pytest.fixture(scope="module")
def layer(request: pytest.FixtureRequest, store: Store) -> Conformance:
    """The store's entry of the certificate, shared by all its lockstep tests."""
    certificate: Certificate = request.config.stash[CERTIFICATE]
    expected = WITNESSES_WITHOUT_LOCKS | (WITNESSES_OF_LOCKS if store.advisory_locks else frozenset())
    fresh = Conformance(version=store.version(), sometimes_expected=expected)
    layer = certificate.stores.setdefault(store.name, fresh)
    layer.steps_least = request.config.option.steps
    return layer


@pytest.fixture(autouse=True)
def _timed(layer: Conformance) -> Iterator[None]:
    began = time.monotonic()
    yield
    layer.seconds += time.monotonic() - began


@pytest.mark.verifies("PS-CONCURRENCY-1", "PS-CONCURRENCY-2", "PS-CONCURRENCY-3")
@pytest.mark.parametrize("retention", [None, RETENTION_SECONDS], ids=["keys for ever", "keys expire"])
@pytest.mark.timeout(600)
def test_generated_calls_agree_with_the_model(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, layer: Conformance, retention: int | None
) -> None:
    """Hypothesis drives the store and the model; after each step answer, tables and promises agree."""
    settings = Settings(
        advisory_locks=store.advisory_locks,
        retention=None if retention is None else retention * SECOND,
        patience=PATIENCE_SECONDS * SECOND,
    )

    class Machine(QueueMachine):
        @staticmethod
        def start() -> Lockstep:
            return Lockstep(store.fresh(tmp_path, retention, PATIENCE_SECONDS), settings, layer.coverage)

    half = -(-request.config.option.steps // 2)  # for each retention
    generate(Machine, request.config.stash[CERTIFICATE].seed, layer.coverage, half)


def in_seconds(call: op.Invocation, *, several_sessions: bool) -> op.Invocation:
    """The same call with a world's ticks as seconds, and with a request where a store wants one."""
    # One session is enough, and quicker, where there are no locks to tell them apart.
    changes: dict[str, Any] = {} if several_sessions else {"session": "player"}
    for name in ("lease", "milliseconds", "available_at"):
        ticks = getattr(call, name, None)
        if isinstance(ticks, int):
            changes[name] = ticks * SECOND
    if isinstance(call, op.Create):
        changes["request"] = (1, None, "{}", "witness")
    if isinstance(call, op.LoseReply):
        changes["call"] = in_seconds(call.call, several_sessions=several_sessions)
    return replace(call, **changes)


@pytest.mark.parametrize("world", [*PLAYED, PLAYED_WITH_LOCKS])
@pytest.mark.timeout(600)
def test_the_shortest_way_to_each_situation_agrees_with_the_model(
    tmp_path: Path, store: Store, layer: Conformance, world: str
) -> None:
    """What the explorer found possible in the model is played on the store: no pair is left to luck."""
    of_locks = world == PLAYED_WITH_LOCKS
    if of_locks and not store.advisory_locks:
        return  # the world has nothing to say about this store
    assert SHORT.retention is not None
    settings = Settings(
        advisory_locks=store.advisory_locks, retention=SHORT.retention * SECOND, patience=PATIENCE_TICKS * SECOND
    )
    met: set[Hashable] = set()
    for way in shortest_ways(world):
        adapter = store.fresh(tmp_path, SHORT.retention, PATIENCE_TICKS)
        lockstep = Lockstep(adapter, settings, layer.coverage, generated=False)
        for call in way:
            lockstep.do(in_seconds(call, several_sessions=of_locks))
            assert lockstep.seen is not None
            met.add(signature(lockstep.seen))
        adapter.close()
    if not store.advisory_locks:  # a store with locks may choose among several answers, and then goes other ways
        assert sorted(signatures(world) - met, key=repr) == []


def test_the_worlds_reach_every_pair() -> None:
    reached = {pair for world in PLAYED for pair, _ in signatures(world)}
    assert sorted(ALL_PAIRS - reached) == []
