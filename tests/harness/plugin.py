"""The stateful run as pytest sees it: its options, its seed, its certificate, and its exit code.

The certificate is printed and written when every stateful test was selected, and then anything but *holds* makes the
run red. A run of some of them has no certificate: it says so, and its exit code is that of its tests. With `-n` several
processes share the run, and the certificate is that of all of them.
"""

import argparse
import os
import random
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from prompt_studio_model.checking.explore import Verdict
from prompt_studio_model.worlds import WORLDS
from tests.harness import shares
from tests.harness.certificate import FILE, Certificate
from tests.harness.failures import names_broken_by
from tests.harness.processes_layer import table
from tests.harness.stores import STORES
from tests.harness.temporary import use_memory

CERTIFICATE: Final = pytest.StashKey[Certificate]()
STEPS_LEAST: Final = 200
STATEFUL: Final = "stateful"
FIXED: Final = frozenset({"ci", "mutants"})
"""The Hypothesis profiles that draw the same each time."""
LAYER_ORDER: Final = ("model", "stateful", "interleaved", "regressions", "processes")
"""The directories of the layers, from the top down; all other tests come first."""
_STARTED: Final = pytest.StashKey[float]()
_SELECTED: Final = pytest.StashKey[tuple[int, int]]()
_PASSED: Final = pytest.StashKey[set[str]]()
_FAILED: Final = pytest.StashKey[dict[str, Verdict]]()
_STORE: Final = "stateful_store"
"""The attribute of a stateful test's report that names its store."""


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
        type=_positive,
        default=400,
        help="schedules of generated scenarios for each store (default: %(default)s)",
    )
    group.addoption("--seed", type=int, help="the same as --hypothesis-seed: of everything that is drawn")
    group.addoption("--scenario", default="", help="only schedules of scenarios whose name contains this")
    group.addoption("--store", default="", help="only schedules on stores whose name contains this")
    group.addoption("--replay", metavar="FILE", help="play the schedule of this file again, and nothing else")
    group.addoption(
        "--depth", type=_positive, default=3, help="the deepest bug to look for with priorities (default: %(default)s)"
    )


def _steps(text: str) -> int:
    steps = int(text)
    if steps < STEPS_LEAST:
        raise argparse.ArgumentTypeError(f"at least {STEPS_LEAST} steps are needed to make one example of each kind")
    return steps


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 at least")
    return number


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed if none is given, so that the certificate can name it. Some profiles have a fixed one.

    Hypothesis is told of a seed only that was given: with one it looks at no example that failed before.
    """
    use_memory()
    if config.option.seed is not None:
        config.option.hypothesis_seed = config.option.seed
    elif config.option.hypothesis_seed is None and os.environ.get("HYPOTHESIS_PROFILE") in FIXED:
        config.option.hypothesis_seed = 0
    config.stash[_STARTED] = time.monotonic()
    config.stash[CERTIFICATE] = Certificate(seed=_seed(config))
    config.stash[_PASSED] = set()
    config.stash[_FAILED] = {}
    if not shares.is_share(config):
        config.pluginmanager.register(_Judge(config))


def _seed(config: pytest.Config) -> int:
    if shares.is_share(config):
        return shares.told_seed(config)
    given = config.option.hypothesis_seed
    return random.SystemRandom().randint(1, 2**32) if given is None else int(given)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With a schedule to play again collect the test that does so and no other; without one, all but that.

    For `-m stateful`, by itself, read no file that does not have the word: to collect all of them takes longer than
    many a test.
    """
    if _asks_for_nothing_of(collection_path, config):
        return True
    plays_again = collection_path.name == "test_replay.py"
    return True if collection_path.is_file() and plays_again == (config.option.replay is None) else None


def _asks_for_nothing_of(path: Path, config: pytest.Config) -> bool:
    whole = config.option.markexpr == STATEFUL and path.is_file() and path.suffix == ".py"
    return whole and not _has_the_word(path)


def _has_the_word(path: Path) -> bool:
    return f"mark.{STATEFUL}" in path.read_text(encoding="utf-8")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Put the layers in their order, and count the stateful tests before and after anything is deselected."""
    collected = _stateful(items)
    for path in {item.path for item in items if item.get_closest_marker(STATEFUL)}:
        if not _has_the_word(path):
            raise pytest.UsageError(f"{path} has stateful tests: write mark.{STATEFUL} there, by which they are found")
    for item in items:
        if _explores(item):
            item.add_marker(pytest.mark.xdist_group("worlds"))  # xdist looks for it among the first
    yield
    items.sort(key=_layer)
    config.stash[_SELECTED] = (_stateful(items), collected)
    if _is_whole(config):
        (config.rootpath / FILE).unlink(missing_ok=True)  # an old one must not speak for a run that never ends


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of a stateful test's report that it is one, and of which store: a report goes where the run is judged."""
    del call
    report = yield
    if item.get_closest_marker(STATEFUL):
        store = getattr(getattr(item, "callspec", None), "params", {}).get("store")
        report.__dict__[_STORE] = "" if store is None else store.name
    return report


class _Judge:
    """Whoever hears how each test ended, in the process where the run is judged."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sort what ended a stateful test: a broken promise, or trouble of our own that proves nothing."""
        store = getattr(report, _STORE, None)
        if store is None:
            return
        stash = self._config.stash
        if report.passed:
            if report.when == "call":
                stash[_PASSED].add(report.nodeid)
            return
        broken = names_broken_by(report)
        stash[CERTIFICATE].violations += [f"{name} ({report.nodeid.rpartition('::')[2]})" for name in broken]
        stash[_FAILED][store] = "violated" if broken else "inconclusive"
        if not broken:
            stash[CERTIFICATE].troubles.append(f"{report.nodeid}: {report.outcome} in {report.when}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's, which has no types
        """All processes of a run draw from one seed, the one that the certificate names."""
        shares.tell_seed(node, self._config.stash[CERTIFICATE].seed)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - xdist's, which has no types
        """Take what another process of this run has to say."""
        share = shares.handed_over(node)
        if share is not None:
            self._config.stash[CERTIFICATE].add(share.certificate)
            self._config.stash[_SELECTED] = share.selected  # all select the same, or xdist refuses to begin


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole run that does not hold is red, even if each of its tests passed."""
    config = session.config
    if shares.is_share(config):
        selected = config.stash.get(_SELECTED, (0, 0))
        shares.hand_over(config, shares.Share(config.stash[CERTIFICATE], selected))
    elif _is_whole(config):
        certificate = config.stash[CERTIFICATE]
        for name, verdict in config.stash[_FAILED].items():
            if name in certificate.stores:
                certificate.stores[name].failed = verdict
        certificate.troubles += _left_out(config, certificate)
        if exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            certificate.troubles.append(f"the run was cut short: {pytest.ExitCode(exitstatus).name.lower()}")
        certificate.seconds = time.monotonic() - config.stash[_STARTED]
        certificate.write(config.rootpath)
        if certificate.verdict != "holds" and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the races and the schedules came to, and the certificate."""
    certificate = config.stash[CERTIFICATE]
    races = [race for layer in certificate.processes.values() for race in layer.races]
    for title, lines in (("races", table(races) if races else []), ("schedules", certificate.told)):
        if lines:
            terminalreporter.section(title)
            terminalreporter.write_line("\n".join(lines))
    selected, _ = config.stash.get(_SELECTED, (0, 0))
    if not selected:
        return
    terminalreporter.section("certificate")
    if not _is_whole(config):
        terminalreporter.line("none: not every stateful test was selected, so this run proves nothing as a whole")
        return
    for line in certificate.lines():
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


def _explores(item: pytest.Item) -> bool:
    """Whether a test wants the explored worlds, which are explored once in each process that asks."""
    return "world" in item.name and item.get_closest_marker(STATEFUL) is not None and _layer(item) > 0


def _stateful(items: list[pytest.Item]) -> int:
    return sum(item.get_closest_marker(STATEFUL) is not None for item in items)


def _is_whole(config: pytest.Config) -> bool:
    selected, collected = config.stash.get(_SELECTED, (0, 0))
    some = config.option.file_or_dir or config.option.replay is not None
    return selected == collected > 0 and not some and not config.option.collectonly
