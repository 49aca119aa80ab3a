"""What a stateful run explored, to which bounds, and what follows: the verdict, printed and written.

Only `Certificate.verdict` says *holds*, and only if every layer that was to run has run to its end and witnessed all
that it must. A failure of ours (an exception that is not a violation) is *inconclusive*, and so is a pair never met: a
run that cannot tell is as red as one that failed.
"""

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from prompt_studio_model.checking.explore import Exploration, Verdict
from prompt_studio_model.table import Key
from tests.harness.adapter import MODEL_SOURCES, SOURCES
from tests.harness.interleaved_layer import InterleavedLayer
from tests.harness.lockstep import Coverage
from tests.harness.pairs import ALL_PAIRS
from tests.harness.processes_layer import ProcessesLayer

FILE: Final = Path("build") / "certificate.json"
UNWITNESSED_SHOWN: Final = 10


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the whole: violated before inconclusive before holds; nothing at all is inconclusive."""
    found = set(verdicts)
    if "violated" in found:
        return "violated"
    return "holds" if found == {"holds"} else "inconclusive"


@dataclass
class World:
    """One explored world of the model."""

    verdict: Verdict
    distinct: int
    depth: int
    transitions: int
    seconds: float
    sometimes: dict[str, int]
    broken: list[str]


@dataclass
class Conformance:
    """One store in lockstep with the model. `sometimes_expected` derives from what the store is capable of."""

    coverage: Coverage = field(default_factory=Coverage)
    version: str = ""  # of the database
    seconds: float = 0.0
    steps_least: int = 0
    sometimes_expected: frozenset[str] = frozenset()
    pairs_expected: frozenset[Key] = ALL_PAIRS
    failed: Verdict | None = None  # what a test of this store that did not pass came to

    @property
    def unwitnessed(self) -> list[str]:
        """What must happen at least once and did not, by name."""
        pairs = sorted("/".join(pair) for pair in self.pairs_expected - self.coverage.pairs.keys())
        return pairs + sorted(self.sometimes_expected - self.coverage.sometimes.keys())

    @property
    def verdict(self) -> Verdict:
        """Holds if nothing was violated and all was witnessed in enough steps."""
        if self.failed is not None:
            return self.failed
        return "holds" if not self.unwitnessed and self.coverage.steps >= self.steps_least else "inconclusive"

    def add(self, other: Self) -> None:
        """Take what another process of the run has done."""
        self.coverage.add(other.coverage)
        self.seconds += other.seconds
        self.failed = self.failed or other.failed

    def as_json(self) -> dict[str, Any]:
        """Return the layer's entry of the certificate."""
        return {
            "steps": self.coverage.steps,
            "steps_least": self.steps_least,
            "played": self.coverage.played,
            "examples": self.coverage.examples,
            "pairs_witnessed": len(self.pairs_expected & self.coverage.pairs.keys()),
            "pairs_total": len(self.pairs_expected),
            "sometimes": dict(sorted(self.coverage.sometimes.items())),
            "unwitnessed": self.unwitnessed,
            "seconds": round(self.seconds, 1),
        }


Layer = TypeVar("Layer", Conformance, ProcessesLayer, InterleavedLayer)


def _add(own: dict[str, Layer], others: dict[str, Layer]) -> None:
    """Take others' layers of each store."""
    for name, layer in others.items():
        if name in own:
            own[name].add(layer)
        else:
            own[name] = layer


@dataclass
class Certificate:
    """Everything that a run has to say for itself. Tests add to it; the plugin closes it.

    Each process of a run that several share has one, and `add` makes one of them.
    """

    seed: int = 0
    seconds: float = 0.0
    worlds: dict[str, World] = field(default_factory=dict)
    stores: dict[str, Conformance] = field(default_factory=dict)
    agreements: dict[str, Conformance] = field(default_factory=dict)  # several stores in lockstep with each other
    processes: dict[str, ProcessesLayer] = field(default_factory=dict)  # each store's races
    interleaved: dict[str, InterleavedLayer] = field(default_factory=dict)  # each store's schedules
    violations: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # what the schedules have to say, for people

    def add(self, other: Self) -> None:
        """Take what another process of the run has to say."""
        self.worlds |= other.worlds
        _add(self.stores, other.stores)
        _add(self.agreements, other.agreements)
        _add(self.processes, other.processes)
        _add(self.interleaved, other.interleaved)
        self.violations += other.violations
        self.troubles += other.troubles
        self.told += other.told

    def explored(self, found: Exploration[Any, Any, Any], seconds: float) -> None:
        """Add one explored world."""
        numbers = (found.distinct, found.depth, found.transitions, seconds)
        self.worlds[found.world] = World(found.verdict, *numbers, dict(sorted(found.witnessed.items())), found.broken)
        self.violations += [f"{name} (model, world {found.world})" for name in found.broken]

    @property
    def verdict(self) -> Verdict:
        """The one place that may say *holds*."""
        if self.violations:
            return "violated"
        if self.troubles or not self.worlds or not self.stores:
            return "inconclusive"
        layers: list[World | Conformance | ProcessesLayer | InterleavedLayer] = [
            *self.worlds.values(),
            *self.stores.values(),
        ]
        layers += [*self.agreements.values(), *self.processes.values(), *self.interleaved.values()]
        return worst(layer.verdict for layer in layers)

    def _store_as_json(self, name: str) -> dict[str, Any]:
        store, races = self.stores[name], self.processes.get(name)
        layers: dict[str, Any] = {"conformance": {"verdict": store.verdict, **store.as_json()}}
        verdicts = [store.verdict]
        if name in self.interleaved:
            layers["interleaved"] = self.interleaved[name].as_json()
            verdicts.append(self.interleaved[name].verdict)
        if races is not None:
            layers["processes"] = races.as_json()
            verdicts.append(races.verdict)
        return {"verdict": worst(verdicts), "version": store.version, "layers": layers}

    def as_json(self) -> dict[str, Any]:
        """Return the certificate as it is written."""
        return {
            "verdict": self.verdict,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "python": platform.python_version(),
            "sources": sorted({str(SOURCES), str(MODEL_SOURCES)}),
            "model": {
                "verdict": worst(world.verdict for world in self.worlds.values()),
                "worlds": {
                    name: vars(world) | {"seconds": round(world.seconds, 1)} for name, world in self.worlds.items()
                },
            },
            "stores": {name: self._store_as_json(name) for name in self.stores},
            "agreements": {
                name: {"verdict": layer.verdict, "layers": {"conformance": layer.as_json()}}
                for name, layer in self.agreements.items()
            },
            "violations": self.violations,
            "troubles": self.troubles,
        }

    def lines(self) -> list[str]:
        """Return the certificate as it is printed."""
        lines = [f"seed {self.seed}, {self.seconds:.1f} s"]
        for name, world in self.worlds.items():
            lines.append(
                f"model     {name:<18} {world.verdict:<12} {world.distinct:>7,} states, depth {world.depth}, "
                f"{world.transitions:,} transitions, {len(world.sometimes)} sometimes witnessed, {world.seconds:.1f} s"
            )
        for name, store in (self.stores | self.agreements).items():
            entry = store.as_json()
            lines.append(
                f"lockstep  {name:<18} {store.verdict:<12} {entry['steps']:>7,} steps generated, "
                f"{entry['played']:,} played, {entry['examples']:,} examples, "
                + (f"pairs {entry['pairs_witnessed']} of {entry['pairs_total']}, " if store.pairs_expected else "")
                + f"{entry['seconds']} s"
            )
            if store.coverage.steps < store.steps_least:
                lines.append(f"  too few steps: at least {store.steps_least:,} are wanted")
            missing = store.unwitnessed
            lines += [f"  never witnessed: {one}" for one in missing[:UNWITNESSED_SHOWN]]
            if len(missing) > UNWITNESSED_SHOWN:
                lines.append(f"  ... and {len(missing) - UNWITNESSED_SHOWN} more, in {FILE}")
        for name, played in self.interleaved.items():
            told = played.as_json()
            reduced = sum(one.reduced for one in played.exhaustive.values())
            lines.append(
                f"schedules {name:<18} {played.verdict:<12} {told['schedules']:>7,} schedules, "
                f"{told['steps']:,} steps, {told['blocked_waits']:,} waits, "
                f"{len(played.exhaustive) - reduced} scenarios in every order, {reduced} in one of each kind, "
                f"{told['seconds']} s"
            )
            lines += [f"  not exhausted: {one}" for one in played.missing]
        for name, races in self.processes.items():
            told = races.as_json()
            lines.append(
                f"processes {name:<18} {races.verdict:<12} {told['operations']:>7,} calls in {len(races.races)} races, "
                f"{told['kills']} kills, {told['stops']} stops, {told['seconds']} s"
            )
            lines += [f"  not run: {one}" for one in races.missing]
        lines += [f"violated: {one}" for one in self.violations]
        lines += [f"could not judge: {one}" for one in self.troubles]
        return [*lines, f"verdict: {self.verdict}"]

    def write(self, root: Path) -> None:
        """Write the certificate below the project's root."""
        (root / FILE).parent.mkdir(exist_ok=True)
        (root / FILE).write_text(json.dumps(self.as_json(), indent=2) + "\n")
