"""The specs, the marks, the comments and the model name the same ids and say the same sentences."""

from pathlib import Path
from typing import Final

import pytest

from prompt_studio_model.invariants import ALWAYS
from prompt_studio_model.table import TABLE, UNREACHABLE
from prompt_studio_model.witnesses import SOMETIMES
from tests.repository import outcomes
from tests.repository.requirements import (
    SPECS,
    IndexRow,
    InvariantRow,
    Requirement,
    all_requirements,
    as_table_row,
    disagreements,
    index,
    invariants,
    known_ids,
    not_one_sentence,
    requirements,
)
from tests.repository.traceability import (
    PAGE,
    Malformed,
    Use,
    built_in,
    current_page,
    gaps,
    impl_comments,
    main,
    mutants,
    mutated,
    render,
    unknown,
    verified,
    verifies_marks,
)

INVARIANTS: Final = (*ALWAYS, *SOMETIMES)
INDEX: Final = index((SPECS / "README.md").read_text(encoding="utf-8"))
INVARIANT_ROWS: Final = invariants((SPECS / "invariants.md").read_text(encoding="utf-8"))
HOW_TO_REFRESH: Final = (
    "specs/traceability.md is stale; write it with: .venv/bin/python -m tests.repository.traceability"
)


class TestThisRepository:
    def test_gives_each_requirement_one_sentence_and_one_row_of_the_index(self) -> None:
        assert disagreements(all_requirements(), INDEX) == []
        assert not_one_sentence(all_requirements()) == []

    def test_uses_no_id_that_the_specs_do_not_define(self) -> None:
        uses = [*built_in("impl", "model", "tests"), *verified(), *mutated()]
        named = [Use(one, "invariants", promise.id) for promise in INVARIANTS for one in promise.requirements]
        rows = [Use(one, "specs/invariants.md", row.id) for row in INVARIANT_ROWS for one in row.requirements]

        assert unknown([*uses, *named, *rows], known_ids()) == []

    def test_says_the_same_of_each_invariant_in_the_specs_and_in_the_model(self) -> None:
        in_the_model = [
            InvariantRow(promise.id, promise.expectation, promise.sentence, promise.requirements)
            for promise in INVARIANTS
        ]

        assert [as_table_row(row) for row in in_the_model] == [as_table_row(row) for row in INVARIANT_ROWS]

    def test_builds_and_tests_what_the_index_calls_implemented(self) -> None:
        assert gaps(INDEX, built_in("impl"), verified()) == []

    def test_has_a_fresh_page_of_traces(self) -> None:
        assert PAGE.read_text(encoding="utf-8") == current_page(), HOW_TO_REFRESH

    def test_has_a_fresh_page_of_outcomes(self) -> None:
        page = outcomes.render(TABLE, UNREACHABLE)

        assert outcomes.PAGE.read_text(encoding="utf-8") == page, HOW_TO_REFRESH
        assert {credential for _, _, credential in TABLE} <= set(outcomes.CREDENTIALS)


class TestRequirements:
    def test_are_the_paragraphs_that_begin_with_an_id(self) -> None:
        text = "# Page\n\n**PS-A-1** First\nsentence.\n\nIt refers to **PS-A-1** again.\n\n**PS-B-C-12** Second.\n"

        assert requirements(text, "page.md") == [
            Requirement("PS-A-1", "First sentence.", "page.md"),
            Requirement("PS-B-C-12", "Second.", "page.md"),
        ]

    @pytest.mark.parametrize("sentence", ["Two. Sentences.", "No stop", "A question? Yes."])
    def test_that_are_not_one_sentence_are_found(self, sentence: str) -> None:
        assert len(not_one_sentence([Requirement("PS-A-1", sentence, "page.md")])) == 1

    def test_with_points_inside_a_word_are_one_sentence(self) -> None:
        assert not_one_sentence([Requirement("PS-A-1", "Up to 0.5 of `a.b`, at most.", "page.md")]) == []


class TestIndex:
    DEFINED = (Requirement("PS-A-1", "First.", "leases.md"), Requirement("PS-A-2", "Second.", "README.md"))
    TEXT = (
        "| PS-A-1 | [leases](leases.md) | implemented | specified |\n| PS-A-2 | [below](#x) | specified | specified |\n"
    )

    def test_agrees_with_the_sentences(self) -> None:
        assert disagreements(list(self.DEFINED), index(self.TEXT)) == []

    @pytest.mark.parametrize(
        ("defined", "text", "complaint"),
        [
            (DEFINED[:1], TEXT, "PS-A-2 has a row in the index and no sentence"),
            ((*DEFINED, Requirement("PS-A-3", "Third.", "leases.md")), TEXT, "PS-A-3 has a sentence and no row"),
            ((*DEFINED, DEFINED[0]), TEXT, "PS-A-1 is defined more than once"),
            (DEFINED, TEXT + TEXT.splitlines()[0], "PS-A-1 has more than one row"),
            (
                DEFINED,
                TEXT.replace("leases.md", "locks.md"),
                "PS-A-1 is defined in leases.md, and the index says locks.md",
            ),
            (DEFINED, TEXT.replace("implemented", "nearly done"), "PS-A-1 has the unknown status 'nearly done'"),
        ],
    )
    def test_that_disagrees_is_found(self, defined: tuple[Requirement, ...], text: str, complaint: str) -> None:
        assert [found for found in disagreements(list(defined), index(text)) if complaint in found]


class TestInvariantRows:
    def test_are_read_with_their_requirements(self) -> None:
        text = (
            "| INV-A-B | always | it is `x \\| y`, always | PS-A-1, PS-B-2 |\n| SEEN-C | sometimes | seen | PS-A-1 |\n"
        )

        assert invariants(text) == [
            InvariantRow("INV-A-B", "always", "it is `x \\| y`, always", ("PS-A-1", "PS-B-2")),
            InvariantRow("SEEN-C", "sometimes", "seen", ("PS-A-1",)),
        ]
        assert "".join(f"{as_table_row(row)}\n" for row in invariants(text)) == text


class TestUses:
    SOURCE = (
        "class Store:\n"
        "    def renew(self) -> None:\n"
        "        # impl: PS-A-1, PS-A-2\n"
        "        self.now()  # impl: INV-A-B\n"
        "\n"
        "\n"
        "# impl: PS-A-3\n"
        "LIMIT = 1\n"
    )
    TEST = (
        "import pytest\n"
        "pytestmark = pytest.mark.verifies('PS-A-1')\n"
        "@pytest.mark.verifies('PS-A-2', 'INV-A-B')\n"
        "class TestRenew:\n"
        "    @pytest.mark.verifies('PS-A-3')\n"
        "    def test_moves(self): ...\n"
    )

    def test_in_comments_are_named_by_the_function_around_them(self) -> None:
        assert impl_comments("impl/store.py", self.SOURCE) == [
            Use("PS-A-1", "impl/store.py", "Store.renew"),
            Use("PS-A-2", "impl/store.py", "Store.renew"),
            Use("INV-A-B", "impl/store.py", "Store.renew"),
            Use("PS-A-3", "impl/store.py", ""),
        ]

    def test_in_sql_are_named_by_the_statement_around_them(self) -> None:
        text = "-- name: renew\n-- Moves the expiry.\nUPDATE job SET -- impl: PS-A-1\n"

        assert impl_comments("impl/common.sql", text) == [Use("PS-A-1", "impl/common.sql", "renew")]

    def test_in_marks_are_named_by_what_bears_the_mark(self) -> None:
        assert verifies_marks("tests/test_renew.py", self.TEST) == [
            Use("PS-A-1", "tests/test_renew.py", ""),
            Use("PS-A-2", "tests/test_renew.py", "TestRenew"),
            Use("INV-A-B", "tests/test_renew.py", "TestRenew"),
            Use("PS-A-3", "tests/test_renew.py", "TestRenew.test_moves"),
        ]

    def test_by_mutants_are_named_by_the_mutant(self) -> None:
        text = 'version = 1\n[[mutant]]\nid = "drops-the-guard"\nrequirements = ["PS-A-1"]\ninvariant = "INV-A-B"\n'

        assert [(use.id, use.name) for use in mutants(text)] == [
            ("PS-A-1", "drops-the-guard"),
            ("INV-A-B", "drops-the-guard"),
        ]

    def test_of_an_unknown_id_are_found(self) -> None:
        uses = [Use("PS-A-1", "a.py", "f"), Use("PS-A-9", "a.py", "g")]

        assert unknown(uses, frozenset({"PS-A-1"})) == ["a.py (g): PS-A-9 is defined nowhere in specs/"]

    def test_in_a_comment_that_cannot_be_read_are_an_error(self) -> None:
        with pytest.raises(Malformed, match=r"a\.sql:1: after `impl:` come ids"):
            impl_comments("a.sql", "SELECT 1 -- impl: see PS-A-1")

    def test_in_a_mark_that_cannot_be_read_are_an_error(self) -> None:
        with pytest.raises(Malformed, match=r"a\.py:1: a `verifies` mark takes literal ids"):
            verifies_marks("a.py", "pytestmark = pytest.mark.verifies(NAME)")


class TestGaps:
    ROW = IndexRow("PS-A-1", "leases.md", ("implemented", "specified"))
    LATER = IndexRow("PS-A-1", "leases.md", ("not needed", "specified"))
    USE = Use("PS-A-1", "a.py", "f")

    def test_are_none_when_an_implemented_id_has_a_place_and_a_test(self) -> None:
        assert gaps([self.ROW], [self.USE], [self.USE]) == []

    def test_are_found_when_an_implemented_id_has_no_place(self) -> None:
        assert gaps([self.ROW], [], [self.USE]) == ["PS-A-1 is implemented, and no `# impl:` says where"]

    def test_are_found_when_an_implemented_id_has_no_test(self) -> None:
        assert gaps([self.ROW], [self.USE], []) == ["PS-A-1 is implemented, and no test verifies it"]

    def test_are_found_when_a_specified_id_has_a_place(self) -> None:
        assert gaps([self.LATER], [self.USE], []) == ["PS-A-1 is built, and the index does not say so"]


class TestPageOfTraces:
    def test_has_a_row_for_each_id_with_all_its_users(self) -> None:
        rows = [IndexRow(name, "leases.md", ("implemented", "specified")) for name in ("PS-A-10", "PS-A-2")]
        watchers = [InvariantRow("INV-A-B", "always", "sentence", ("PS-A-2",))]
        built = [Use("PS-A-2", "impl/prompt_studio/store.py", name) for name in ("renew", "acquire", "renew")]
        tests = [Use("PS-A-2", "tests/a.py", "x"), Use("PS-A-2", "tests/a.py", "y"), Use("INV-A-B", "tests/b.py", "")]
        mutated_by = [Use("PS-A-2", "catalogue.toml", "drops-the-guard")]

        table = [
            line for line in render(rows, watchers, (built, tests, mutated_by)).splitlines() if line.startswith("|")
        ]

        assert table[2:4] == [
            "| PS-A-2 | `store.py` (acquire, renew) | `a.py` | INV-A-B | drops-the-guard |",
            "| PS-A-10 | - | - | - | - |",
        ]
        assert table[-1] == "| INV-A-B | `b.py` | - |"

    def test_is_written_where_it_is_asked_for(self, tmp_path: Path) -> None:
        assert main(tmp_path / "page.md") == 0
        assert (tmp_path / "page.md").read_text(encoding="utf-8") == current_page()


class TestPageOfOutcomes:
    TABLE: Final = {
        ("complete", "live", "current"): "applied",
        ("complete", "expired", "current"): "applied",
        ("complete", "queued", "current"): "lease_lost",
        ("cancel", "any", "current"): "rejected",
        ("cancel", "live", "none"): "applied",
    }

    def test_has_a_row_for_situations_with_the_same_answers(self) -> None:
        page = outcomes.render(self.TABLE, {("queued", "current"): "the argument"})

        assert "| the row | complete | cancel |" in page
        assert "| live, expired | applied | rejected |" in page
        assert "| queued | unreachable | unreachable |" in page
        assert "- queued, a call with the row's present token: the argument." in page

    def test_is_written_where_it_is_asked_for(self, tmp_path: Path) -> None:
        assert outcomes.main(tmp_path / "page.md") == 0
        assert (tmp_path / "page.md").read_text(encoding="utf-8") == outcomes.render(TABLE, UNREACHABLE)


class TestCollection:
    def test_of_a_mark_with_an_unknown_id_is_an_error(self, pytester: pytest.Pytester) -> None:
        conftest = (SPECS.parent / "tests" / "conftest.py").read_text(encoding="utf-8")
        pytester.makeconftest(conftest)
        pytester.makeini("[pytest]\nmarkers =\n    verifies(*ids): ids\n")
        pytester.makepyfile("import pytest\n@pytest.mark.verifies('PS-LOCKS-999')\ndef test_nothing(): ...\n")

        result = pytester.runpytest_inprocess()

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*test_nothing: verifies('PS-LOCKS-999'), which no file in specs/ defines*"])
