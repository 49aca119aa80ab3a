"""Judges a history together with what it left in the tables: which promises does it prove to be broken?

Pure functions, quick enough for thousands of calls. They report what the history proves and nothing else: a call
without an answer may have taken effect or not, and of two calls that overlap either may have been first.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.harness.evidence import Evidence, Finding, Holding, Remains
from tests.harness.history import History
from tests.harness.judged_claims import claim_order, no_early_claim
from tests.harness.judged_leases import (
    attempts_agree,
    endings,
    executions_bounded,
    lease_monotone,
    no_early_reclaim,
    single_holder,
    token_grows,
)
from tests.harness.judged_records import locks_match, nothing_lost, one_effect_per_key, schema_holds

Judge = Callable[[Evidence], Iterator[Finding]]

JUDGES: Final[tuple[Judge, ...]] = (
    schema_holds,
    single_holder,
    attempts_agree,
    token_grows,
    executions_bounded,
    no_early_reclaim,
    no_early_claim,
    lease_monotone,
    endings,
    nothing_lost,
    one_effect_per_key,
    claim_order,
    locks_match,
)
FINDINGS_SHOWN: Final = 10
NO_HOLDING: Final = Holding()


def judge(history: History, remains: Remains, holding: Holding = NO_HOLDING) -> list[Finding]:
    """All that is wrong, from the judge of the most serious promise on."""
    evidence = Evidence(history, remains, holding)
    return [finding for one in JUDGES for finding in one(evidence)]


def names_of(findings: Iterable[Finding]) -> list[str]:
    """The promises that are broken, each once."""
    return list(dict.fromkeys(name for finding in findings for name in finding.names))


def explained(findings: list[Finding]) -> str:
    """What is wrong, for people."""
    more = len(findings) - FINDINGS_SHOWN
    return "\n".join([*map(str, findings[:FINDINGS_SHOWN]), *([f"... and {more} more"] if more > 0 else [])])
