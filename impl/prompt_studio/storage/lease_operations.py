"""Jobs at work: acquired, renewed, closed. Every call is one guarded statement, and the row is the only authority."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Final

from prompt_studio.errors import TransientConflict
from prompt_studio.jobs import ClosedBy, JobRow, JobStatus, JobType, Outcome
from prompt_studio.storage.claims import Listener
from prompt_studio.storage.operations import MILLISECONDS, Operations, wanted_types
from prompt_studio.storage.outcomes import applied, refused_move, refused_owner, refused_token
from prompt_studio.storage.transactions import Session

EXHAUSTED_PER_CALL_MAX: Final = 100
"""How many jobs without an execution left one acquire fails on its way."""


class LeaseOperations(Operations):
    """Jobs at work."""

    def acquire_next_job(self, worker_id: str | None, leases: Mapping[JobType, int]) -> JobRow | None:
        """The best eligible job of these types, leased for so many seconds; None when there is none.

        Exhausted expired jobs that are better are failed first, best first, each in a transaction of its own: a
        crash on the way then loses nothing, and no rival waits for all of them.
        """
        self._sessions.current().refuse_callers_transaction()
        wanted = wanted_types(list(leases))
        lengths = {
            f"lease_milliseconds_{number}": leases[job_type] * MILLISECONDS
            for number, job_type in enumerate(wanted.values(), start=1)
        }
        claim = self._claims.begin(min(leases.values()), {"worker_id": _name(worker_id), **wanted, **lengths})
        for _ in range(EXHAUSTED_PER_CALL_MAX):
            step = claim.step(fails_exhausted=True)
            if not step.exhausted:
                return step.job
        return claim.step(fails_exhausted=False).job

    def acquire_this_job(self, job_id: int, worker_id: str | None, lease_seconds: int) -> Outcome:
        """One job, leased, if it is queued and available."""
        self._sessions.current().refuse_callers_transaction()
        lease = {"worker_id": _name(worker_id), "lease_milliseconds": lease_seconds * MILLISECONDS}
        claim = self._claims.begin(lease_seconds, {"job_id": job_id, **lease})
        session = self._sessions.current()
        patience = session.patience()
        while True:
            step = claim.this()
            if step.job is not None:
                return applied(step.job)
            explained = partial(self._explained, job_id=job_id, locked=step.refused)
            refused = session.write(explained, patience=patience)
            if refused is not None:
                return refused
            patience.check(TransientConflict("the job was given back each time after it was refused"))

    def renew_lease(self, job_id: int, lease_token: int, seconds: int) -> Outcome:
        """A lease that ends no earlier than it did, and no earlier than this many seconds from now.

        It runs on the thread's own session: a slow claim or closing call must not keep other leases from being renewed.
        """
        return self._with_token(
            "renew_lease", job_id, lease_token, None, {"lease_milliseconds": seconds * MILLISECONDS}
        )

    def renew_lease_by_owner(self, job_id: int, worker_id: str, seconds: int) -> Outcome:
        """The same for a caller without a token; names are reused, so this proves less."""
        return self._guarded(
            self._sessions.current(),
            ("renew_lease_by_owner",),
            {"job_id": job_id, "worker_id": worker_id, "lease_milliseconds": seconds * MILLISECONDS},
            _applied_under_lease,
            refused_owner,
        )

    def complete(self, job_id: int, lease_token: int, result: str | None) -> Outcome:
        """The attempt has ended well."""
        return self._with_token("complete_job", job_id, lease_token, ClosedBy.COMPLETE, {"result": result})

    def fail(self, job_id: int, lease_token: int, error_message: str | None) -> Outcome:
        """The attempt has failed, and so has the job."""
        return self._with_token("fail_job", job_id, lease_token, ClosedBy.FAIL, {"error_message": error_message})

    def fail_or_requeue(self, job_id: int, lease_token: int, error_message: str | None, *, spread: int) -> Outcome:
        """The attempt has failed; the job is tried again, after a pause, while it has executions left."""
        more = {"error_message": error_message, "spread": spread}
        return self._with_token("fail_or_requeue_job", job_id, lease_token, ClosedBy.FAIL, more)

    def release(self, job_id: int, lease_token: int) -> Outcome:
        """The attempt did not take place."""
        return self._with_token("release_job", job_id, lease_token, ClosedBy.RELEASE, {})

    def forget_lease(self, job_id: int, lease_token: int) -> None:
        """Nobody here works under this token any more; the row is left as it is."""
        self._claims.forget(job_id, lease_token)

    def listener(self) -> Listener | None:
        """Somebody who hears when a job was queued."""
        return self._claims.listener()

    def _with_token(
        self, name: str, job_id: int, lease_token: int, closing: ClosedBy | None, more: Mapping[str, object]
    ) -> Outcome:
        self._sessions.current().refuse_callers_transaction()
        outcome = self._guarded(
            self._sessions.current() if closing is None else self._claims.session(),
            (name,),
            {"job_id": job_id, "lease_token": lease_token, **more},
            _applied_under_lease,
            lambda job: refused_token(job, lease_token, closing),
        )
        self._claims.told(job_id, lease_token, outcome, closing)
        return outcome

    def _explained(self, session: Session, *, job_id: int, locked: bool) -> Outcome | None:
        """Why a job was not leased; None if it could be by now. `locked`: another session has its lock."""
        self._hold(session, {"job_id": job_id})
        rows = self._run(session, "get_job_to_lease", {"job_id": job_id})
        if rows and rows[0]["leasable"] and not locked:
            return None
        return refused_move(self._dialect.job(rows[0]) if rows else None, JobStatus.PROCESSING)


def _name(worker_id: str | None) -> str:
    """A nameless worker gets a name of its own: with the last owner's it could renew what was that one's."""
    return worker_id or f"anonymous-{uuid.uuid4().hex}"


def _applied_under_lease(job: JobRow) -> Outcome:
    return applied(job, late=job["late"])
