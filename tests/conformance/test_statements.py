"""The `.sql` files and their loader."""

import re
from dataclasses import replace

import pytest

from prompt_studio.storage.statements import (
    Language,
    Statement,
    StatementError,
    Statements,
    load_statements,
    query_text,
    schema_texts,
)

pytestmark = pytest.mark.conformance

SHARED = """\
-- A heading, which belongs to no statement.

-- name: one
-- Says one thing.
SELECT :value, ${now}, '10:30' -- impl: X
FROM somewhere;

-- name: jobs_{status}
-- Says it of each status.
SELECT 1 WHERE status = '{status}';
"""


PLAIN = Language(now="clock()", milliseconds="", epoch="0", placeholder="%({})s".format)
WITH_CLOCK = replace(PLAIN, now="(SELECT now FROM clock)", clock="clock AS (SELECT 1 AS now)", milliseconds="* ms")


def loaded(shared: str, own: str | None = None, language: Language = PLAIN) -> Statements:
    return load_statements(shared, own, language)


class TestLoadStatements:
    def test_fills_in_clock_and_parameters_and_puts_the_name_in_front(self) -> None:
        one = loaded(SHARED)["one"]
        assert one.name == "one"
        assert one.sql == "/* one */ SELECT %(value)s, clock(), '10:30' -- impl: X\nFROM somewhere"

    def test_reads_the_clock_once_where_the_language_has_a_table_for_it(self) -> None:
        text = "-- name: later\n-- Adds.\nSELECT ${now} + 1 ${milliseconds};\n-- name: none\n-- No clock.\nSELECT 1"
        statements = loaded(text, language=WITH_CLOCK)
        assert statements["later"].sql == (
            "/* later */ WITH clock AS (SELECT 1 AS now) SELECT (SELECT now FROM clock) + 1 * ms"
        )
        assert statements["none"].sql == "/* none */ SELECT 1"

    def test_leaves_the_clock_where_a_statement_puts_it(self) -> None:
        text = "-- name: own\n-- Has more tables.\nWITH ${clock}, other AS (SELECT 2) SELECT ${now}"
        assert loaded(text, language=WITH_CLOCK)["own"].sql.count("clock AS") == 1

    @pytest.mark.parametrize(
        ("sql", "changes"), [("UPDATE prompt_x SET", True), ("SELECT 1 FOR NO KEY UPDATE", False), ("COMMIT", True)]
    )
    def test_knows_what_may_change_a_row(self, sql: str, *, changes: bool) -> None:
        assert Statement("any", sql).changes is changes

    def test_makes_one_statement_for_each_status(self) -> None:
        names = [statement.name for statement in loaded(SHARED)]
        assert names == ["one", "jobs_queued", "jobs_processing", "jobs_completed", "jobs_failed", "jobs_cancelled"]
        assert loaded(SHARED)["jobs_failed"].sql.endswith("status = 'failed'")

    def test_lets_an_override_replace_its_namesake(self) -> None:
        statements = loaded(SHARED, "-- name: one\n-- Differs because it is shorter.\nSELECT 2;\n")
        assert statements["one"].sql == "/* one */ SELECT 2"
        assert len(list(statements)) == 6

    @pytest.mark.parametrize(
        ("shared", "overrides", "says"),
        [
            (SHARED + SHARED, None, "two statements named 'one'"),
            ("-- name: one\nSELECT 1;", None, "'one' needs a name, a line of comment"),
            ("-- name: one\n-- Nothing follows.\n", None, "'one' needs a name, a line of comment"),
            ("-- name: \n-- Nameless.\nSELECT 1", None, "'' needs a name"),
            (SHARED, "-- name: one\n-- Just so.\nSELECT 2;", "'one' of a dialect must begin with '-- Differs because'"),
            (
                SHARED,
                "-- name: two\n-- Just so.\nSELECT 2;",
                "'two' of a dialect must begin with '-- Only here because'",
            ),
        ],
    )
    def test_refuses_a_file_that_breaks_its_rules(self, shared: str, overrides: str | None, says: str) -> None:
        with pytest.raises(StatementError, match=re.escape(says)):
            loaded(shared, overrides)

    def test_lets_a_dialect_have_statements_of_its_own(self) -> None:
        assert loaded(SHARED, "-- name: two\n-- Only here because.\nSELECT 2;")["two"].sql == "/* two */ SELECT 2"

    def test_has_no_statement_that_nobody_wrote(self) -> None:
        with pytest.raises(StatementError, match="no statement named 'two'"):
            loaded(SHARED)["two"]


class TestTheFiles:
    def test_name_no_status_by_a_parameter(self) -> None:
        assert not re.search(r"status\s*(?:=|IN)\s*\(?\s*:", query_text("common.sql"))

    def test_read_the_clock_in_one_way_only(self) -> None:
        text = query_text("common.sql")
        assert "julianday" not in text
        assert "CURRENT_TIMESTAMP" not in text.upper()
        assert "NOW()" not in text.upper()

    def test_are_in_the_order_of_their_versions(self) -> None:
        (first,) = schema_texts("sqlite")
        assert "VALUES (1, ${now})" in first
