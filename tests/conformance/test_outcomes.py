"""The pure explanations of a refusal, over every row that one may find."""

from itertools import product
from typing import Any, cast

import pytest

from prompt_studio import JobRow, JobStatus, Outcome, OutcomeKind
from prompt_studio.jobs import TERMINAL, ClosedBy
from prompt_studio.storage.outcomes import refused_move, refused_owner, refused_retry, refused_token

pytestmark = pytest.mark.conformance

MARKS = [(None, None), *((token, by) for token in (1, 2) for by in ClosedBy)]
ROWS = [
    cast(
        "JobRow",
        cast("Any", {"status": status, "lease_token": 2, "closed_token": token, "closed_by": by, "late": True}),
    )
    for status, (token, by) in product(JobStatus, MARKS)
]


class TestRefusedToken:
    @pytest.mark.parametrize("closing", [None, *ClosedBy])
    @pytest.mark.verifies("PS-CONCURRENCY-10", "PS-CONCURRENCY-12")
    def test_decides_in_the_contracts_order(self, closing: ClosedBy | None) -> None:
        assert refused_token(None, 2, closing) == Outcome(OutcomeKind.NOT_FOUND)
        for job, token in product(ROWS, (1, 2, 3)):
            outcome = refused_token(job, token, closing)
            assert outcome.status is job["status"]
            if token != job["lease_token"]:
                assert outcome.kind == "lease_lost"
            elif job["closed_token"] == token and job["closed_by"] == closing:
                assert outcome == Outcome(OutcomeKind.ALREADY, job["status"], late=True, job=job)
            elif job["status"] in TERMINAL:
                assert outcome.kind == "terminal"
            else:
                assert outcome.kind == "lease_lost"


class TestRefusedOthers:
    def test_find_no_row(self) -> None:
        assert refused_owner(None) == refused_retry(None) == Outcome(OutcomeKind.NOT_FOUND)
        assert all(refused_move(None, status) == Outcome(OutcomeKind.NOT_FOUND) for status in JobStatus)

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    def test_tell_an_end_from_a_refusal(self) -> None:
        for job, wanted in product(ROWS, JobStatus):
            ended = job["status"] in TERMINAL
            assert refused_owner(job).kind == ("terminal" if ended else "lease_lost")
            assert refused_retry(job).kind == ("terminal" if ended else "refused")
            same = job["status"] == wanted != "processing"
            assert refused_move(job, wanted).kind == ("already" if same else "terminal" if ended else "refused")


class TestOutcome:
    def test_is_true_when_the_job_is_as_wanted(self) -> None:
        assert {kind: bool(Outcome(kind)) for kind in OutcomeKind} == {
            "applied": True,
            "already": True,
            "not_found": False,
            "lease_lost": False,
            "terminal": False,
            "refused": False,
        }
