"""`--failures FILE`: which tests failed and which promises that breaks, as data, for whoever started the run."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness.violation import Violation

_FOUND: Final = pytest.StashKey[list[dict[str, Any]]]()
_BROKEN: Final = "broken_promises"
_VERIFIED: Final = "verified_promises"
"""The attributes of a failed test's report that name them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--failures", metavar="FILE", help="write failed tests and what they say was broken, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with none."""
    config.stash[_FOUND] = []
    config.pluginmanager.register(_Listener(config.stash[_FOUND]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note with the report of a failed test which promises it saw broken, and which it verifies.

    With the report, since that goes where the run is told of: into another process, if several share it.
    """
    report = yield
    if not report.passed:
        error = call.excinfo.value if call.excinfo else None
        seen = [name for violation in violations(error) for name in violation.names]
        report.__dict__[_BROKEN] = list(dict.fromkeys(seen))
        verified = [name for mark in item.iter_markers("verifies") for name in mark.args]
        report.__dict__[_VERIFIED] = list(dict.fromkeys(verified))
    return report


class _Listener:
    """Whoever hears how each test ended."""

    def __init__(self, found: list[dict[str, Any]]) -> None:
        self._found = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failed test with the promises that it saw broken, or else with those that it verifies."""
        if report.failed:
            names = names_broken_by(report) or getattr(report, _VERIFIED, [])
            self._found.append({"test": report.nodeid, "names": names, "error": report.longreprtext[-2_000:]})


def names_broken_by(report: pytest.TestReport) -> list[str]:
    """The promises that a test saw broken, by its report."""
    return list(getattr(report, _BROKEN, []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write them."""
    target = session.config.option.failures
    if target:
        Path(target).write_text(json.dumps(session.config.stash[_FOUND], indent=2) + "\n", encoding="utf-8")


def violations(error: BaseException | None) -> Iterator[Violation]:
    """Yield the violations in an error; Hypothesis reports several distinct failures as a group."""
    if isinstance(error, Violation):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from violations(one)
