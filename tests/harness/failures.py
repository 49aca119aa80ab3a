"""`--failures FILE`: which tests failed and which promises that breaks, as data, for whoever started the run."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness.violation import Violation

_FOUND: Final = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--failures", metavar="FILE", help="write failed tests and what they say was broken, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with none."""
    config.stash[_FOUND] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a failed test with the promises that it saw broken, or else with those that it verifies."""
    report = yield
    if report.failed:
        error = call.excinfo.value if call.excinfo else None
        seen = [name for violation in violations(error) for name in violation.names]
        verified = [name for mark in item.iter_markers("verifies") for name in mark.args]
        item.config.stash[_FOUND].append(
            {"test": item.nodeid, "names": list(dict.fromkeys(seen or verified)), "error": report.longreprtext[-2_000:]}
        )
    return report


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
