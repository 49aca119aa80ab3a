"""The documents keep what they promise, and each checker finds a document that does not."""

import runpy
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from tests.repository.documents import anchors, broken_links, missing_targets, python_blocks
from tests.repository.requirements import ROOT
from tests.repository.tidy import tracked_files

PAGES: Final = [name for name in tracked_files() if name.endswith(".md")]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")


def _read(page: str, target: str) -> str | None:
    path = (ROOT / PurePosixPath(page).parent / target).resolve()
    if not path.is_relative_to(ROOT) or not path.exists():
        return None
    return "" if path.is_dir() else path.read_text(encoding="utf-8")


class TestThisRepository:
    @pytest.mark.parametrize("page", PAGES)
    def test_has_no_broken_link(self, page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")

        assert broken_links(page, text, lambda target: _read(page, target)) == []

    @pytest.mark.parametrize("page", PAGES)
    def test_has_each_target_that_a_page_names(self, page: str) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

        assert missing_targets(page, (ROOT / page).read_text(encoding="utf-8"), makefile) == []

    def test_has_examples_in_the_readme_that_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        blocks = python_blocks(README)
        for number, block in enumerate(blocks):
            script = tmp_path / f"example_{number}.py"
            script.write_text(block, encoding="utf-8")
            runpy.run_path(str(script))

        assert blocks

    def test_does_in_ci_what_the_readme_says(self) -> None:
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

        assert "make check" in script
        assert "make test" in script


class TestAnchors:
    def test_are_the_headings_in_lower_case_with_dashes(self) -> None:
        text = "# What this is\n\n```sh\n# not a heading\n```\n\n## Complete, fail, `release`\n"

        assert anchors(text) == {"what-this-is", "complete-fail-release"}


class TestBrokenLinks:
    TREE: Final = {"leases.md": "# Leases\n\n## The order\n", "decisions/": ""}

    @pytest.mark.parametrize(
        "text",
        [
            "[a](leases.md)",
            "[a](leases.md#the-order)",
            "[a](decisions/)",
            "# Here\n[a](#here)",
            "[a](mailto:someone@example.org)",
            "```md\n[a](nowhere.md)\n```",
        ],
    )
    def test_are_none_where_each_link_leads_somewhere(self, text: str) -> None:
        assert broken_links("page.md", text, self.TREE.get) == []

    @pytest.mark.parametrize("text", ["[a](nowhere.md)", "[a](leases.md#nothing)", "[a](#nothing)"])
    def test_are_found(self, text: str) -> None:
        assert len(broken_links("page.md", text, self.TREE.get)) == 1


class TestMissingTargets:
    MAKEFILE: Final = ".PHONY: test\ntest: venv ## Test\n\t@echo\n"

    @pytest.mark.parametrize(
        "text", ["`make test`", "```sh\nmake test\nmake PYTHON=python3 test\n```", "make up your mind"]
    )
    def test_are_none_where_each_command_exists(self, text: str) -> None:
        assert missing_targets("page.md", text, self.MAKEFILE) == []

    @pytest.mark.parametrize("text", ["`make tests`", "```sh\ncd x && make fuzz MINUTES=60\n```", "`make A=1 bench`"])
    def test_are_found(self, text: str) -> None:
        assert len(missing_targets("page.md", text, self.MAKEFILE)) == 1
