"""The stateful run as pytest sees it: its options, its seed, its certificate, and its exit code.

The certificate is printed and written when every stateful test was selected, and then anything but *holds* makes the
run red. A run of some of them has no certificate: it says so, and its exit code is that of its tests.
"""

import argparse
import os
import random
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from prompt_studio_model.worlds import WORLDS
from tests.harness.certificate import FILE, Certificate
from tests.harness.failures import violations
from tests.harness.interleaved_layer import SCHEDULES
from tests.harness.processes_layer import LAYERS
from tests.harness.stores import STORES

CERTIFICATE: Final = pytest.StashKey[Certificate]()
STEPS_LEAST: Final = 200
LAYER_ORDER: Final = ("model", "stateful", "interleaved", "regressions", "processes")
"""The directories of the layers, from the top down; all other tests come first."""
_STARTED: Final = pytest.StashKey[float]()
_SELECTED: Final = pytest.StashKey[tuple[int, int]]()
_PASSED: Final = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the stateful layers."""
    group = parser.getgroup("stateful", "the model against the stores")
    group.addoption(
        "--steps",
        type=_steps,
        default=20_000,
        help="least generated steps of a store in lockstep (default: %(default)s)",
    )
    group.addoption(
        "--races", choices=["quick", "full"], default="quick", help="how often each race is run (default: %(default)s)"
    )
    group.addoption(
        "--schedules",
        type=int,
        default=400,
        help="schedules of generated scenarios for each store (default: %(default)s)",
    )
    group.addoption("--seed", type=int, help="the same as --hypothesis-seed: of everything that is drawn")
    group.addoption("--scenario", default="", help="only schedules of scenarios whose name contains this")
    group.addoption("--store", default="", help="only schedules on stores whose name contains this")
    group.addoption("--replay", metavar="FILE", help="play the schedule of this file again, and nothing else")
    group.addoption(
        "--depth", type=int, default=3, help="the deepest bug to look for with priorities (default: %(default)s)"
    )


def _steps(text: str) -> int:
    steps = int(text)
    if steps < STEPS_LEAST:
        raise argparse.ArgumentTypeError(f"at least {STEPS_LEAST} steps are needed to make one example of each kind")
    return steps


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed if none is given, so that the certificate can name it. Some profiles have a fixed one."""
    if config.option.seed is not None:
        config.option.hypothesis_seed = config.option.seed
    if config.option.hypothesis_seed is None:
        fixed = os.environ.get("HYPOTHESIS_PROFILE") in {"ci", "mutants"}
        config.option.hypothesis_seed = 0 if fixed else random.SystemRandom().randint(1, 2**32)
    config.stash[_STARTED] = time.monotonic()
    config.stash[CERTIFICATE] = Certificate(seed=int(config.option.hypothesis_seed))
    config.stash[_PASSED] = set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With a schedule to play again collect the test that does so and no other; without one, all but that."""
    plays_again = collection_path.name == "test_replay.py"
    return True if collection_path.is_file() and plays_again == (config.option.replay is None) else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Put the layers in their order, and count the stateful tests before and after anything is deselected."""
    collected = _stateful(items)
    yield
    items.sort(key=_layer)
    config.stash[_SELECTED] = (_stateful(items), collected)
    if _is_whole(config):
        (config.rootpath / FILE).unlink(missing_ok=True)  # an old one must not speak for a run that never ends


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Sort what ended a stateful test: a broken promise, or trouble of our own that proves nothing."""
    report = yield
    if report.when == "call" and report.passed and item.get_closest_marker("stateful"):
        item.config.stash[_PASSED].add(item.nodeid)
    if report.outcome != "passed" and item.get_closest_marker("stateful"):
        certificate = item.config.stash[CERTIFICATE]
        broken = [name for error in violations(call.excinfo.value if call.excinfo else None) for name in error.names]
        certificate.violations += [f"{name} ({item.name})" for name in dict.fromkeys(broken)]
        store = getattr(getattr(item, "callspec", None), "params", {}).get("store")
        if store is not None and store.name in certificate.stores:
            certificate.stores[store.name].failed = "violated" if broken else "inconclusive"
        if not broken:
            certificate.troubles.append(f"{item.nodeid}: {report.outcome} in {report.when}")
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole run that does not hold is red, even if each of its tests passed."""
    config = session.config
    if _is_whole(config):
        certificate = config.stash[CERTIFICATE]
        if LAYERS in config.stash:
            certificate.processes = config.stash[LAYERS]
        if SCHEDULES in config.stash:
            certificate.interleaved = config.stash[SCHEDULES]
        certificate.troubles += _left_out(config, certificate)
        if exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            certificate.troubles.append(f"the run was cut short: {pytest.ExitCode(exitstatus).name.lower()}")
        certificate.seconds = time.monotonic() - config.stash[_STARTED]
        certificate.write(config.rootpath)
        if certificate.verdict != "holds" and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the certificate."""
    selected, _ = config.stash.get(_SELECTED, (0, 0))
    if not selected:
        return
    terminalreporter.section("certificate")
    if not _is_whole(config):
        terminalreporter.line("none: not every stateful test was selected, so this run proves nothing as a whole")
        return
    for line in config.stash[CERTIFICATE].lines():
        terminalreporter.line(line)
    terminalreporter.line(f"written to {Path(FILE)}")


def _left_out(config: pytest.Config, certificate: Certificate) -> Iterator[str]:
    """Say what was selected and did not run to its end, as in a run that was interrupted or that gave up early."""
    passed, (selected, _) = len(config.stash[_PASSED]), config.stash[_SELECTED]
    if passed < selected:
        yield f"{selected - passed} of {selected} stateful tests did not pass, or did not run"
    yield from (f"the world {name} was not explored" for name in WORLDS.keys() - certificate.worlds.keys())
    yield from (f"the store {store.name} was not run" for store in STORES if store.name not in certificate.stores)
    yield from (f"{store.name} played no schedules" for store in STORES if store.name not in certificate.interleaved)
    yield from (f"{store.name} held no races" for store in STORES if store.name not in certificate.processes)


def _layer(item: pytest.Item) -> int:
    """Where a test stands: a wrong model makes every later layer lie, so who gives up early has asked it first."""
    directory = item.path.parent.name
    return LAYER_ORDER.index(directory) if directory in LAYER_ORDER else 0


def _stateful(items: list[pytest.Item]) -> int:
    return sum(item.get_closest_marker("stateful") is not None for item in items)


def _is_whole(config: pytest.Config) -> bool:
    selected, collected = config.stash.get(_SELECTED, (0, 0))
    some = config.option.file_or_dir or config.option.replay is not None
    return selected == collected > 0 and not some and not config.option.collectonly
