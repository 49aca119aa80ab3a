"""Each cell of the table of backends names tests that exist, and the checker finds one that does not."""

from typing import Final

import pytest

from tests.repository.backends import cells_without_a_test, missing_tests, named_tests
from tests.repository.requirements import ROOT, SPECS

PAGE: Final = (SPECS / "backends.md").read_text(encoding="utf-8")


def _read(path: str) -> str | None:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


class TestThisRepository:
    def test_names_a_test_in_each_cell(self) -> None:
        assert cells_without_a_test(PAGE) == []

    def test_has_each_test_that_the_page_names(self) -> None:
        assert named_tests(PAGE), "a page without tests shows nothing"
        assert missing_tests(PAGE, _read) == []


class TestCells:
    TREE: Final = {
        "tests/faults/test_a.py": "class TestLocks:\n    def test_hold(self): ...\n\n\ndef test_alone(): ...\n"
    }

    def test_name_tests_by_class_and_function(self) -> None:
        text = (
            "| what | SQLite | Postgres |\n|---|---|---|\n"
            "| a lock | holds: [TestLocks.test_hold](../tests/faults/test_a.py)"
            " | holds: [test_alone](../tests/faults/test_a.py) |\n"
        )
        assert cells_without_a_test(text) == []
        assert missing_tests(text, self.TREE.get) == []

    @pytest.mark.parametrize("cell", ["none", "[test_alone](somewhere.md)", "[faults](../tests/faults/test_a.py)"])
    def test_without_a_test_are_found(self, cell: str) -> None:
        assert cells_without_a_test(f"| a lock | {cell} | [test_alone](../tests/faults/test_a.py) |\n") == ["a lock"]

    @pytest.mark.parametrize(
        "link",
        [
            "[TestLocks.test_gone](../tests/faults/test_a.py)",
            "[test_hold](../tests/faults/test_a.py)",
            "[TestLocks.test_hold](../tests/faults/test_b.py)",
        ],
    )
    def test_with_a_test_that_is_not_there_are_found(self, link: str) -> None:
        assert len(missing_tests(link, self.TREE.get)) == 1
