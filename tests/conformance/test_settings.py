"""Settings: parsed once, never bent into range."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from prompt_studio import BackendType, InputError, PromptStudioDatabase, Settings
from tests.conformance.conftest import Open
from tests.conformance.stores import Store
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance


class TestFromEnvironment:
    def test_has_defaults(self) -> None:
        assert Settings.from_environment({}) == Settings(
            lease_seconds=60, sqlite_wal=True, idempotency_retention_seconds=None, write_retry_seconds=5.0
        )

    @pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("3600", 3600), (" 90 ", 90), ("007", 7)])
    def test_reads_the_length_of_a_lease(self, text: str, seconds: int) -> None:
        assert Settings.from_environment({"TLDW_PS_JOB_LEASE_SECONDS": text}).lease_seconds == seconds

    @pytest.mark.parametrize(
        "text", ["", "0", "3601", "60.0", "-5", "1e3", "sixty", "\u0661", "9" * 5000, "nan", "6_0"]
    )
    @pytest.mark.verifies("PS-INPUT-5")
    def test_refuses_a_bad_length_and_names_the_variable(self, text: str) -> None:
        with pytest.raises(InputError, match=r"TLDW_PS_JOB_LEASE_SECONDS must be a whole number .*1 to 3600"):
            Settings.from_environment({"TLDW_PS_JOB_LEASE_SECONDS": text})

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("", None), ("0", None), (" 0 ", None), ("5", 5), ("0.25", 0.25), (".5", 0.5), ("+2.", 2), ("1e9", 1e9)],
    )
    @pytest.mark.verifies("PS-LEASE-HB-4")
    def test_reads_the_interval_between_beats(self, text: str, seconds: float | None) -> None:
        assert Settings.from_environment({"TLDW_PS_HEARTBEAT_SECONDS": text}).heartbeat_seconds == seconds

    @pytest.mark.parametrize(
        "text", ["abc", "-5", "nan", "inf", "-inf", "infinity", "0.0", "-0", "1e999", "1_0", "\u0661", "0x5", "5 s"]
    )
    @pytest.mark.verifies("PS-LEASE-HB-4", "PS-INPUT-5")
    def test_refuses_what_is_no_interval(self, text: str) -> None:
        with pytest.raises(InputError, match=r"TLDW_PS_HEARTBEAT_SECONDS must be a finite number of seconds above 0"):
            Settings.from_environment({"TLDW_PS_HEARTBEAT_SECONDS": text})

    @pytest.mark.verifies("PS-LEASE-HB-4")
    def test_refuses_a_bad_interval_when_a_database_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TLDW_PS_HEARTBEAT_SECONDS", "abc")
        with pytest.raises(InputError, match="'abc': correct it, or unset it for a third of the lease"):
            PromptStudioDatabase(tmp_path / "jobs.db", "tester")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
    def test_turns_the_write_ahead_log_on(self, text: str) -> None:
        assert Settings.from_environment({"TLDW_PS_SQLITE_WAL": text}).sqlite_wal is True

    @pytest.mark.parametrize("text", ["0", "False", "no", "off"])
    def test_turns_the_write_ahead_log_off(self, text: str) -> None:
        assert Settings.from_environment({"TLDW_PS_SQLITE_WAL": text}).sqlite_wal is False

    @pytest.mark.parametrize("text", ["", "maybe", "2"])
    @pytest.mark.verifies("PS-INPUT-5")
    def test_refuses_other_words(self, text: str) -> None:
        with pytest.raises(InputError, match=re.escape("TLDW_PS_SQLITE_WAL must be one of 1, true")):
            Settings.from_environment({"TLDW_PS_SQLITE_WAL": text})


class TestTheTransactionPooler:
    @pytest.mark.parametrize(
        ("environment", "locks", "pooler"),
        [
            ({}, True, False),
            ({"TLDW_PS_ADVISORY_LOCKS": "off"}, False, False),
            ({"TLDW_PS_TRANSACTION_POOLER": "1"}, False, True),
            ({"TLDW_PS_TRANSACTION_POOLER": "on", "TLDW_PS_ADVISORY_LOCKS": "0"}, False, True),
            ({"TLDW_PS_TRANSACTION_POOLER": "no", "TLDW_PS_ADVISORY_LOCKS": "yes"}, True, False),
        ],
    )
    @pytest.mark.verifies("PS-LOCKS-4")
    def test_is_announced_by_a_variable_which_turns_locks_off(
        self, environment: dict[str, str], *, locks: bool, pooler: bool
    ) -> None:
        settings = Settings.from_environment(environment)
        assert (settings.advisory_locks, settings.transaction_pooler) == (locks, pooler)

    @pytest.mark.verifies("PS-INPUT-5")
    def test_is_refused_beside_locks_that_were_asked_for(self) -> None:
        both = {"TLDW_PS_TRANSACTION_POOLER": "1", "TLDW_PS_ADVISORY_LOCKS": "1"}
        with pytest.raises(InputError, match=r"TLDW_PS_ADVISORY_LOCKS must be off.* TLDW_PS_TRANSACTION_POOLER is on"):
            Settings.from_environment(both)

    @pytest.mark.parametrize("variable", ["TLDW_PS_TRANSACTION_POOLER", "TLDW_PS_ADVISORY_LOCKS"])
    @pytest.mark.verifies("PS-INPUT-5")
    def test_is_announced_by_no_other_words(self, variable: str) -> None:
        with pytest.raises(InputError, match=f"{variable} must be one of"):
            Settings.from_environment({variable: "maybe"})


class TestSettings:
    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("lease_seconds", 0),
            ("lease_seconds", True),
            ("heartbeat_seconds", 0),
            ("heartbeat_seconds", -1.0),
            ("heartbeat_seconds", True),
            ("heartbeat_seconds", float("inf")),
            ("heartbeat_seconds", float("nan")),
            ("answer_seconds", 0),
            ("notifications", 1),
            ("sqlite_wal", "no"),
            ("idempotency_retention_seconds", 0),
            ("idempotency_retention_seconds", 1.5),
            ("write_retry_seconds", -1),
            ("write_retry_seconds", float("nan")),
            ("write_retry_seconds", "5"),
            ("write_retry_seconds", True),
        ],
    )
    @pytest.mark.verifies("PS-INPUT-2")
    def test_are_checked(self, argument: str, value: object) -> None:
        with pytest.raises(InputError, match=argument):
            Settings(**cast("Any", {argument: value}))


class TestDatabase:
    @pytest.mark.verifies("PS-INPUT-5")
    def test_reads_the_environment_when_it_is_opened(
        self, location: str | Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TLDW_PS_JOB_LEASE_SECONDS", "5")
        with PromptStudioDatabase(location, "tester", clock=clock) as database:
            monkeypatch.setenv("TLDW_PS_JOB_LEASE_SECONDS", "nonsense")
            database.create_job("evaluation", 1, {})
            job = database.acquire_next_job()
            assert job is not None
            assert job["leased_until"] is not None
            assert (job["leased_until"] - clock.now).total_seconds() == 5
        with pytest.raises(InputError, match="TLDW_PS_JOB_LEASE_SECONDS"):
            PromptStudioDatabase(location, "tester")

    def test_says_what_it_is(self, database: PromptStudioDatabase, location: str | Path) -> None:
        assert database.backend_type in BackendType
        assert database.capabilities.in_one_file is isinstance(location, Path)
        assert database.capabilities.one_writer is isinstance(location, Path)

    def test_has_advisory_locks_only_where_they_are_possible_and_wanted(self, opened: Open, store: Store) -> None:
        with opened() as database:
            possible = not database.capabilities.in_one_file
            assert database.capabilities.advisory_locks is (possible and store.settings().advisory_locks)
