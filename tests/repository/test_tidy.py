"""The repository keeps its habits, and each checker of a habit finds a text that breaks it."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.repository import tidy
from tests.repository.requirements import ROOT

Checker = Callable[[str, str], list[str]]

FILES: Final = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in tidy.tracked_files()
    if not name.endswith((".png", ".sqlite3"))
}


def _everything(name: str) -> bool:
    return bool(name)


def _python(name: str) -> bool:
    return name.endswith(".py")


def _tests(name: str) -> bool:
    return name.startswith("tests/") and _python(name)


CHECKS: Final[tuple[tuple[Checker, Callable[[str], bool]], ...]] = (
    (tidy.banned_name, _everything),
    (tidy.banned_text, _everything),
    (tidy.long_functions, _python),
    (tidy.long_module, _python),
    (tidy.swallowed_errors, _python),
    (tidy.unreasoned_exceptions, _python),
    (tidy.sleeps, _tests),
    (tidy.skips, _tests),
    (tidy.backends_by_name, _tests),
    (tidy.meets_both_worlds, _tests),
    (tidy.ignores_in_configuration, "pyproject.toml".__eq__),
    (tidy.unpinned, "constraints.txt".__eq__),
)

# A text that breaks the habit, for each checker at least one.
BAD: Final[tuple[tuple[Checker, str, str], ...]] = (
    (tidy.banned_name, "impl/prompt_studio/utils.py", ""),
    (tidy.banned_text, "a.md", "see /" + "work/main/a.py"),
    (tidy.banned_text, "a.md", "see `/" + "root/a.py`"),
    (tidy.banned_text, "a.md", "see ../" + "shared/design"),
    (tidy.banned_text, "a.txt", "https://" + "pypi" + ".org/simple"),
    (tidy.long_functions, "a.py", "def f():\n" + "    x = 1\n" * 70),
    (tidy.long_functions, "a.py", "class C:\n    async def f(self):\n" + "        x = 1\n" * 70),
    (tidy.long_module, "a.py", "x = 1\n" * 501),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept:\n    g()\n"),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept Exception as error:\n    log(error)\n"),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept (OSError, BaseException):\n    x = None\n"),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept OSError:\n    pass\n"),
    (tidy.swallowed_errors, "a.py", "with contextlib.suppress(Exception):\n    f()\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # no" + "qa\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # no" + "qa: S311\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # no" + "qa: BLE001 - the reason\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # type: " + "ignore[arg-type]\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # type: " + "ignore\n"),
    (tidy.sleeps, "a.py", "import time\ntime.sleep(1)\n"),
    (tidy.sleeps, "a.py", "from time import sleep\nsleep(1)\n"),
    (tidy.skips, "a.py", "pytest.importorskip('psycopg')\n"),
    (tidy.skips, "a.py", "@pytest.mark.skip\ndef test_f(): ...\n"),
    (tidy.backends_by_name, "a.py", "if backend == 'sqlite':\n    f()\n"),
    (tidy.backends_by_name, "a.py", "x = store.name in {'postgres', 'sqlite'}\n"),
    (tidy.meets_both_worlds, "tests/a.py", "import prompt_studio\nfrom prompt_studio_model.step import step\n"),
    (tidy.ignores_in_configuration, "p", '[tool.ruff.lint]\nignore = [\n"D105",\n"D107", # why\n]\n'),
    (tidy.ignores_in_configuration, "p", '[tool.ruff.lint]\nignore = ["BLE001"] # why\n'),
    (tidy.ignores_in_configuration, "p", '[tool.ruff.lint.per-file-ignores]\n"a.py" = ["S110"] # why\n'),
    (tidy.unpinned, "constraints.txt", "ruff>=1\n"),
    (tidy.unpinned, "constraints.txt", "ruff @ file:///somewhere/ruff.whl\n"),
)

GOOD: Final[tuple[tuple[Checker, str, str], ...]] = (
    (tidy.banned_text, "a.md", "a network/work/queue of homework, ./root/ and /usr/bin/env"),
    (tidy.long_functions, "a.py", "def f():\n" + "    x = 1\n" * 69),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept Exception as error:\n    raise Wrapped from error\n"),
    (tidy.swallowed_errors, "a.py", "try:\n    f()\nexcept KeyError:\n    x = None\n"),
    (tidy.swallowed_errors, "a.py", "with contextlib.suppress(FileNotFoundError):\n    f()\n"),
    (tidy.unreasoned_exceptions, "a.py", "x = 1  # no" + "qa: S311 - these dice decide nothing secret\n"),
    (tidy.unreasoned_exceptions, "tests/a.py", "f(1)  # type: " + "ignore[arg-type]\n"),
    (tidy.sleeps, "a.py", "'time.sleep(1)'\n"),
    (tidy.meets_both_worlds, tidy.ADAPTER, "import prompt_studio\nimport prompt_studio_model\n"),
    (tidy.ignores_in_configuration, "p", '[tool.ruff.lint.per-file-ignores]\n"__main__.py" = ["T201"] # output\n'),
)


def _case(value: object) -> str | None:
    return getattr(value, "__name__", None)


class TestThisRepository:
    @pytest.mark.parametrize(("check", "concerns"), CHECKS, ids=_case)
    def test_keeps_the_habit(self, check: Checker, concerns: Callable[[str], bool]) -> None:
        looked_at = [name for name in FILES if concerns(name)]

        assert looked_at, "a checker that looks at nothing finds nothing"
        assert [found for name in looked_at for found in check(name, FILES[name])] == []

    def test_has_a_model_that_stays_smaller_than_a_store(self) -> None:
        assert tidy.large_model(FILES) == []


class TestChecker:
    @pytest.mark.parametrize(("check", "path", "text"), BAD, ids=_case)
    def test_finds_the_broken_habit(self, check: Checker, path: str, text: str) -> None:
        assert check(path, text)

    @pytest.mark.parametrize(("check", "path", "text"), GOOD, ids=_case)
    def test_lets_the_kept_habit_pass(self, check: Checker, path: str, text: str) -> None:
        assert check(path, text) == []

    def test_exists_for_no_habit_without_a_text_that_breaks_it(self) -> None:
        assert {check for check, _ in CHECKS} == {check for check, _, _ in BAD}


class TestCodeLines:
    TEXT: Final = (
        '"""Doc.\n\nMore.\n"""\n\n# comment\nX = (\n    1,\n)  # why\n'
        '\n\ndef f() -> str:\n    """Doc."""\n    return """a\nb"""\n'
    )

    def test_are_the_lines_with_code_on_them(self) -> None:
        assert tidy.code_lines(self.TEXT) == 6

    def test_of_the_model_have_a_limit(self) -> None:
        sources = {
            "model/prompt_studio_model/step.py": "x = 1\n" * 1_001,
            "model/prompt_studio_model/checking/explore.py": "x = 1\n" * 9_000,
            "impl/prompt_studio/store.py": "x = 1\n" * 9_000,
        }

        assert tidy.large_model(sources) == ["the model has 1001 lines of code, and 1000 are allowed"]
