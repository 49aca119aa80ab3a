"""The command `explore`: what it writes where, and its exit code."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from prompt_studio_model.checking import command
from tests.checking import toys
from tests.repository.requirements import ROOT

pytestmark = pytest.mark.model

WORLDS: Final[command.Worlds] = {
    "jugs": toys.jugs(toys.fits, toys.four),
    "solved": toys.jugs(toys.fits, toys.never_four, toys.four),
    "hopeless": toys.jugs(toys.fits, toys.six),
    "counter": toys.counter(bound=10),
}


class Terminal:
    """Collects what the command writes. Its clock moves by two seconds whenever it is read."""

    def __init__(self) -> None:
        self.output: list[str] = []
        self.progress: list[str] = []
        self._ticks: Iterator[int] = iter(range(0, 1_000, 2))

    def run(self, *arguments: str, worlds: command.Worlds = WORLDS) -> int:
        around = command.Surroundings("try", self.output.append, self.progress.append, lambda: float(next(self._ticks)))
        return command.main(worlds, ["explore", *arguments], around)

    @property
    def lines(self) -> list[str]:
        return "".join(self.output).splitlines()

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads("".join(self.output))
        return data


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


class TestExitCode:
    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ("--world jugs", 0),
            ("--world counter", 0),
            ("--world solved", 1),
            ("--world hopeless", 2),
            ("--world jugs --limit 3", 2),
            ("--world all", 1),
            ("", 0),
        ],
    )
    @pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
    def test_is_the_verdict(self, terminal: Terminal, arguments: str, code: int, *, as_json: bool) -> None:
        assert terminal.run(*arguments.split(), *(["--json"] if as_json else [])) == code

    def test_is_that_of_the_worst_world(self, terminal: Terminal) -> None:
        quiet = {name: WORLDS[name] for name in ("jugs", "hopeless")}

        assert terminal.run("--world", "all", worlds=quiet) == 2

    @pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5", "²", ""])
    def test_is_no_verdict_for_a_limit_that_is_none(
        self, terminal: Terminal, capsys: pytest.CaptureFixture[str], limit: str
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            terminal.run(f"--limit={limit}")

        assert stopped.value.code == 64
        assert "is not a whole number of at least 1" in capsys.readouterr().err

    def test_is_no_verdict_for_an_unknown_world_and_the_known_ones_are_named(
        self, terminal: Terminal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            terminal.run("--world", "jug")

        assert stopped.value.code == 64
        assert "no world is called 'jug'; known: jugs, solved, hopeless, counter, or all" in capsys.readouterr().err
        assert terminal.output == []

    def test_is_no_verdict_without_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            command.main(WORLDS, [], command.Surroundings("try", str, str, lambda: 0.0))

        assert stopped.value.code == 64
        assert capsys.readouterr().err.startswith("try: ")

    def test_of_help_is_success_and_help_explains_the_codes(
        self, terminal: Terminal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            terminal.run("--help")

        shown = capsys.readouterr().out
        assert stopped.value.code == 0
        assert all(f"{verdict} " in shown for verdict in command.EXIT)
        assert all(name in shown for name in WORLDS)


class TestWorst:
    def test_of_nothing_is_inconclusive(self) -> None:
        assert command.worst([]) == "inconclusive"

    def test_is_violated_before_inconclusive_before_holds(self) -> None:
        assert command.worst(["holds", "violated", "inconclusive"]) == "violated"
        assert command.worst(["holds", "inconclusive"]) == "inconclusive"
        assert command.worst(["holds", "holds"]) == "holds"


class TestText:
    def test_says_what_was_explored_and_how_often_each_hope_was_seen(self, terminal: Terminal) -> None:
        terminal.run("--world", "jugs")

        assert terminal.lines == [
            "jugs: holds",
            "  distinct states  16",
            "  depth            7",
            "  transitions      96",
            "  seconds          2.0 (8 states/s)",
            "  seen at least once",
            "              8  TOY-FOUR",
        ]

    def test_of_a_violation_shows_the_broken_sentence_and_a_shortest_way_there(self, terminal: Terminal) -> None:
        terminal.run("--world", "solved")

        broken = terminal.lines.index("  broken")
        assert terminal.lines[broken + 1 : broken + 4] == [
            "    TOY-NEVER-FOUR: The big jug never holds four litres.",
            "  a shortest way there",
            "   1  'fill big' → 'done'",
        ]
        assert terminal.lines[-1] == "        big: 5 → 4"
        assert "  distinct states  16" not in terminal.lines

    def test_names_what_was_never_seen(self, terminal: Terminal) -> None:
        terminal.run("--world", "hopeless")

        assert terminal.lines[0] == "jugs: inconclusive"
        assert terminal.lines[-1] == "  never seen: TOY-SIX"

    def test_says_that_not_all_was_visited(self, terminal: Terminal) -> None:
        terminal.run("--limit", "3")

        assert terminal.lines[1].endswith(" (not all)")

    def test_of_a_world_without_hopes_lists_none(self, terminal: Terminal) -> None:
        terminal.run("--world", "counter")

        assert "  seen at least once" not in terminal.lines

    def test_does_not_divide_by_a_time_of_nought(self, terminal: Terminal) -> None:
        around = command.Surroundings("try", terminal.output.append, str, lambda: 5.0)

        command.main(WORLDS, ["explore"], around)

        assert "  seconds          0.0 (0 states/s)" in terminal.lines


class TestProgress:
    def test_has_a_line_for_each_layer_and_stays_out_of_the_output(self, terminal: Terminal) -> None:
        terminal.run("--world", "jugs", "--json")

        assert terminal.progress[0] == "jugs: depth 1, 3 states\n"
        assert terminal.progress[-1] == "jugs: depth 7, 16 states\n"
        assert len(terminal.progress) == 8
        assert len(terminal.output) == 1


class TestJson:
    def test_is_one_object_with_an_entry_for_each_world(self, terminal: Terminal) -> None:
        terminal.run("--world", "all", "--json")

        assert terminal.data["verdict"] == "violated"
        assert terminal.data["worlds"].keys() == WORLDS.keys()

    def test_has_all_that_the_text_has(self, terminal: Terminal) -> None:
        terminal.run("--world", "jugs", "--json")

        assert terminal.data["worlds"]["jugs"] == {
            "verdict": "holds",
            "distinct": 16,
            "depth": 7,
            "transitions": 96,
            "seconds": 2.0,
            "states_per_second": 8,
            "complete": True,
            "sometimes": {"TOY-FOUR": 8},
            "unwitnessed": [],
            "broken": {},
            "counterexample": [],
        }

    def test_of_a_violation_has_the_sentence_and_each_step(self, terminal: Terminal) -> None:
        terminal.run("--world", "solved", "--json")

        entry = terminal.data["worlds"]["solved"]
        assert entry["broken"] == {"TOY-NEVER-FOUR": "The big jug never holds four litres."}
        assert len(entry["counterexample"]) == 6
        assert entry["counterexample"][0] == {"action": "'fill big'", "answer": "'done'", "changes": ["big: 0 → 5"]}


class TestList:
    def test_names_each_world_and_what_it_is_about_and_explores_none(self, terminal: Terminal) -> None:
        assert terminal.run("--list") == 0

        assert terminal.lines == [
            "jugs      Two jugs, a tap and a drain.",
            "solved    Two jugs, a tap and a drain.",
            "hopeless  Two jugs, a tap and a drain.",
            "counter",
        ]
        assert terminal.progress == []


class TestModule:
    @pytest.mark.parametrize(("arguments", "code"), [(["--world", "order", "--limit", "50"], 2), (["--list"], 0)])
    def test_runs_as_a_program(self, arguments: list[str], code: int) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "prompt_studio_model", "explore", *arguments],
            cwd=ROOT,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )

        assert ended.returncode == code, ended.stderr
        assert "order" in ended.stdout
        assert "order: depth 1, " in ended.stderr or arguments == ["--list"]
