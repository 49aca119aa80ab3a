"""`python -m tests.mutants`: would the suite have noticed? Each mutant in a copy of the project, each suite run red.

A mutant is killed when the stateful run of its copy ends *violated* and names the promise that the catalogue
expects. A run that is red for another reason, or inconclusive, has not understood what was wrong: that is survival.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.catalogue import ROOT, Mutant, mutants

COPIED: Final = ("impl", "model", "specs", "tests", "pyproject.toml")
REPORT: Final = ROOT / "build" / "mutants.json"
RUN_SECONDS_MAX: Final = 1_800  # for what hangs; a whole run takes a third of it on a busy machine
# The repository's tests ask git, and a copy is no checkout.
OPTIONS: Final = ("-x", "-q", "-p", "no:cacheprovider", "--ignore=tests/repository")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant."""

    name: str
    killed: bool
    verdict: str
    named: list[str]
    expected: list[str]
    layer: str  # or the test that was the first to notice
    seconds: float


def run(mutant: Mutant, steps: int) -> Result:
    """Run the tests that must notice on a copy of the project with this mutant in it."""
    began = time.monotonic()
    with _copied() as copy:
        target = copy / mutant.file
        target.write_text(mutant.applied_to(target.read_text(encoding="utf-8")), encoding="utf-8")
        verdict, named, layer = verdict_of(copy, steps, mutant.suite)
    killed = verdict == "violated" and not set(named).isdisjoint(mutant.invariant)
    seconds = round(time.monotonic() - began, 1)
    return Result(mutant.id, killed, verdict, named, list(mutant.invariant), layer, seconds)


def run_without(tests: str, steps: int) -> tuple[str, list[str]]:
    """Return what these tests say of the project itself, in a copy too: several run at once."""
    with _copied() as copy:
        verdict, named, _ = verdict_of(copy, steps, tests)
    return verdict, named


@contextmanager
def _copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
            else:
                shutil.copy(source, copy / name)
        yield copy


def verdict_of(project: Path, steps: int, tests: str) -> tuple[str, list[str], str]:
    """Return the verdict of these tests, or of the stateful run, the broken promises, and who saw them first."""
    return part_of_the_suite(project, steps, tests) if tests else (*suite(project, steps), "stateful")


def part_of_the_suite(project: Path, steps: int, tests: str) -> tuple[str, list[str], str]:
    """Return the verdict of some of the project's tests, the promises that they found broken, and the first test."""
    failures = project / "build" / "failures.json"
    failures.parent.mkdir(exist_ok=True)
    failures.unlink(missing_ok=True)
    done = _pytest(project, [*shlex.split(tests), f"--steps={steps}", f"--failures={failures}"])
    if done is None or not failures.exists():
        return f"no end within {RUN_SECONDS_MAX} s" if done is None else done.stdout[-2_000:], [], ""
    found = json.loads(failures.read_text(encoding="utf-8"))
    if done.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return f"ended with {done.returncode}", [done.stdout[-2_000:]], ""
    names = dict.fromkeys(name for failure in found for name in failure["names"])
    return "violated" if found else "holds", list(names), found[0]["test"] if found else ""


def _pytest(project: Path, arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    paths = os.pathsep.join(str(project / root) for root in (".", "impl", "model"))
    environment = os.environ | {"PYTHONPATH": paths, "HYPOTHESIS_PROFILE": "mutants"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, *arguments]
    try:
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def suite(project: Path, steps: int) -> tuple[str, list[str]]:
    """Return the verdict of the project's stateful run, and the names of the promises it found broken."""
    certificate = project / "build" / "certificate.json"
    certificate.unlink(missing_ok=True)
    done = _pytest(project, ["-m", "stateful", f"--steps={steps}"])
    if done is None:
        return f"no end within {RUN_SECONDS_MAX} s", []
    if not certificate.exists():
        return "no certificate", [done.stdout[-2_000:] + done.stderr[-2_000:]]
    told = json.loads(certificate.read_text(encoding="utf-8"))
    if told["sources"] != [str(project)]:
        return f"ran {told['sources']}, not the mutant", []
    if done.returncode != (0 if told["verdict"] == "holds" else 1):
        return f"says {told['verdict']}, and ended with {done.returncode}", []
    return told["verdict"], list(dict.fromkeys(one.split(" ")[0] for one in told["violations"]))


def main() -> int:
    """Run the mutants and print a line for each; 0 if all were killed, 1 if one survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name has this text in it")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="steps of the lockstep layer (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the mutants and their bugs, and stop")
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if options.only in mutant.id]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.id:<48} {' or '.join(mutant.invariant):<40} {mutant.bug}")
        return 0
    if not chosen:
        parser.error(f"no mutant has {options.only!r} in its name; --list shows them")
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        suites = sorted({mutant.suite for mutant in chosen})
        for tests, (verdict, named) in zip(
            suites, pool.map(lambda tests: run_without(tests, options.steps), suites), strict=True
        ):
            print(f"{'the project itself':<48} {verdict} ({tests or 'stateful'})", flush=True)
            if verdict != "holds":
                pool.shutdown(cancel_futures=True)
                print(f"the tests are red without a mutant: {named}", file=sys.stderr)
                return 1
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda mutant: run(mutant, options.steps), chosen):
            fate = "killed by" if result.killed else f"SURVIVED ({result.verdict}, expected {result.expected}):"
            print(
                f"{result.name:<48} {fate} {', '.join(result.named)} ({result.layer}) in {result.seconds} s", flush=True
            )
            results.append(result)
    killed = sum(result.killed for result in results)
    print(f"killed {killed} of {len(results)} in {time.monotonic() - began:.0f} s")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    return 0 if killed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
