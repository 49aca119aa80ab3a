"""The command `explore`: visit every state of bounded worlds, and say what was found.

It is given its worlds, where to write and a clock, and knows nothing else: what a world is about, and which promises
it keeps, are the world's own. The result goes to the output, progress to a place of its own, so that the result can
be piped. The exit code is the verdict, and three verdicts have three codes.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

from prompt_studio_model.checking import rendering
from prompt_studio_model.checking.explore import Exploration, Verdict, World, explore

ALL: Final = "all"
EXIT: Final[dict[Verdict, int]] = {"holds": 0, "violated": 1, "inconclusive": 2}
LIMIT: Final = 5_000_000  # distinct states, which all stay in memory
USAGE: Final = 64  # argparse would say 2, which here is a verdict
EPILOG: Final = """\
verdicts and exit codes:
  holds         0   the whole bounded world was visited, no promise broke, everything hoped for was seen
  violated      1   a promise broke; a shortest way there is shown
  inconclusive  2   neither: the limit was reached, or something that must happen at least once never did
  (usage)      64   the command was not understood

With several worlds the code is that of the worst. Progress goes to standard error, the result to standard output.
"""

AnyWorld = World[Any, Any, Any, Any]
Worlds = Mapping[str, AnyWorld]
Write = Callable[[str], object]


class Result(NamedTuple):
    """One world, explored."""

    world: AnyWorld
    found: Exploration[Any, Any, Any]
    seconds: float

    @property
    def per_second(self) -> int:
        """Distinct states visited in a second."""
        return round(self.found.distinct / self.seconds) if self.seconds > 0 else 0

    @property
    def broken(self) -> dict[str, str]:
        """The sentences of the broken promises, by id."""
        return {promise.id: promise.sentence for promise in self.world.promises if promise.id in self.found.broken}

    @property
    def sometimes(self) -> dict[str, int]:
        """How many transitions witnessed each promise of something that must happen, by its id."""
        hoped = (promise.id for promise in self.world.promises if promise.expectation == "sometimes")
        return {name: self.found.witnessed[name] for name in hoped}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse what was asked, with an exit code that is no verdict."""
        self.exit(USAGE, f"{self.prog}: {message}\n{self.format_usage()}")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _world(known: Worlds, text: str) -> Worlds:
    if text == ALL:
        return known
    if text not in known:
        raise argparse.ArgumentTypeError(f"no world is called {text!r}; known: {', '.join(known)}, or {ALL}")
    return {text: known[text]}


def _parser(known: Worlds, program: str) -> argparse.ArgumentParser:
    first = next(iter(known))
    parser = _Parser(prog=program, description="Check the model by itself.")
    commands = parser.add_subparsers(required=True, metavar="explore", parser_class=_Parser)
    asked = commands.add_parser(
        "explore",
        help="visit every state of a bounded world, and judge every transition",
        description="Visit every state of a bounded world in layers, and judge every transition by every promise.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    asked.add_argument(
        "--world",
        type=partial(_world, known),
        default=first,
        metavar="NAME",
        dest="worlds",
        help=f"which world: {', '.join(known)}, or {ALL} (default: {first})",
    )
    asked.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    asked.add_argument(
        "--limit",
        type=_limit,
        default=LIMIT,
        metavar="N",
        help="give up, inconclusive, with more than N distinct states (default: %(default)s)",
    )
    asked.add_argument("--list", action="store_true", help="list the worlds and what each is about, and explore none")
    return parser


def _listing(known: Worlds) -> str:
    width = max(len(name) for name in known)
    about = {name: (world.actions.__doc__ or "").partition("\n")[0] for name, world in known.items()}
    return "".join(f"{name:<{width}}  {sentence}".rstrip() + "\n" for name, sentence in about.items())


def _text(result: Result) -> str:
    found = result.found
    lines = [
        f"{result.world.name}: {found.verdict}",
        f"  distinct states  {found.distinct:,}" + ("" if found.complete else " (not all)"),
        f"  depth            {found.depth}",
        f"  transitions      {found.transitions:,}",
        f"  seconds          {result.seconds:.1f} ({result.per_second:,} states/s)",
    ]
    if result.sometimes:
        lines.append("  seen at least once")
    lines += [f"    {count:>11,}  {name}" for name, count in result.sometimes.items()]
    if found.unwitnessed and not found.broken:
        lines.append(f"  never seen: {', '.join(found.unwitnessed)}")
    if found.broken:
        lines.append("  broken")
        lines += [f"    {name}: {sentence}" for name, sentence in result.broken.items()]
        lines += ["  a shortest way there", rendering.path(found.counterexample)]
    return "".join(f"{line}\n" for line in lines)


def _data(result: Result) -> dict[str, Any]:
    found = result.found
    names = ("action", "answer", "changes")
    return {
        "verdict": found.verdict,
        "distinct": found.distinct,
        "depth": found.depth,
        "transitions": found.transitions,
        "seconds": round(result.seconds, 3),
        "states_per_second": result.per_second,
        "complete": found.complete,
        "sometimes": result.sometimes,
        "unwitnessed": found.unwitnessed,
        "broken": result.broken,
        "counterexample": [dict(zip(names, rendering.step(step), strict=True)) for step in found.counterexample],
    }


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a run that came to all of these. A run that looked at nothing has found nothing."""
    order: tuple[Verdict, ...] = ("violated", "inconclusive", "holds")
    return next((verdict for verdict in order if verdict in verdicts), "inconclusive")


class Surroundings(NamedTuple):
    """What the command may touch: its own name, two places to write, and a clock in seconds."""

    program: str
    output: Write
    progress: Write
    clock: Callable[[], float]


def _explored(world: AnyWorld, limit: int, around: Surroundings) -> Result:
    def report(depth: int, distinct: int) -> None:
        around.progress(f"{world.name}: depth {depth}, {distinct:,} states\n")

    started = around.clock()
    found = explore(world, states_limit=limit, progress=report)
    return Result(world, found, around.clock() - started)


def main(known: Worlds, arguments: Sequence[str], around: Surroundings) -> int:
    """Explore what the arguments ask for, write what was found, and return the exit code."""
    asked = _parser(known, around.program).parse_args(arguments)
    if asked.list:
        around.output(_listing(known))
        return 0
    results: dict[str, Result] = {}
    for name, world in asked.worlds.items():
        results[name] = _explored(world, asked.limit, around)
        if not asked.json:
            around.output(_text(results[name]))
    verdict = worst([result.found.verdict for result in results.values()])
    if asked.json:
        whole = {"verdict": verdict, "worlds": {name: _data(result) for name, result in results.items()}}
        around.output(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return EXIT[verdict]
