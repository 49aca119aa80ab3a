"""`python -m tests.fuzz`: schedules of generated scenarios on every store, for as many minutes as one likes.

What reached something new is kept in a directory and played first the next time. A schedule that does not hold is
shortened and kept in build/schedules. The exit code is 0 if all hold, 1 if one does not, 2 if nothing can be said.
"""

import argparse
import logging
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz import report
from tests.fuzz.campaign import Campaign, Part, Shard
from tests.fuzz.corpus import Corpus
from tests.fuzz.playground import Playground
from tests.harness.interleaving.session import SessionWorker
from tests.harness.locations import LOCATIONS, Location
from tests.harness.processes import Pool
from tests.harness.progress import Progress
from tests.harness.temporary import use_memory

WORKERS: Final = 3
CODES: Final = {"holds": 0, "violated": 1, "inconclusive": 2}
BUILD: Final = Path("build")


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    summary = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=summary[2])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, for all stores (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of all scenarios; a new one unless given")
    parser.add_argument("--shard", type=Shard.parse, default=Shard(), metavar="I/N", help="every n-th scenario only")
    parser.add_argument("--depth", type=int, default=3, help="the deepest bug to look for (default: %(default)s)")
    parser.add_argument("--store", default="", help="only stores whose name contains this")
    parser.add_argument("--corpus", type=Path, default=BUILD / "corpus", help="what is kept (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=BUILD / "fuzz", help="summary.json, junit.xml (%(default)s)")
    parser.add_argument("--schedules", type=Path, default=BUILD / "schedules", help="what does not hold (%(default)s)")
    return parser


def run(locations: Sequence[Location], asked: argparse.Namespace, parts: list[Part]) -> None:
    """Give each store its share of the time. What was done is in `parts`, whatever ends it."""
    pool = Pool(WORKERS, SessionWorker, preload=("prompt_studio", "psycopg"))
    progress = Progress(sys.stderr)

    def tell(part: Part) -> None:
        if progress.due:
            progress.write(report.line(part))

    try:
        for number, location in enumerate(locations):
            with Playground(pool, location) as playground:
                corpus = Corpus(asked.corpus, location.name)
                campaign = Campaign(playground, corpus, asked.schedules, asked.depth, tell)
                parts.append(campaign.part)
                left = asked.until - time.monotonic()
                until = time.monotonic() + left / (len(locations) - number)
                campaign.run(asked.shard.seeds(asked.seed), until)
    finally:
        progress.end()
        pool.close()


def main(arguments: Sequence[str] | None = None, locations: Sequence[Location] = LOCATIONS) -> int:
    """Run, and write what came of it."""
    asked = parser().parse_args(arguments)
    use_memory()
    asked.seed = random.SystemRandom().randrange(2**16) if asked.seed is None else asked.seed
    asked.until = time.monotonic() + 60 * asked.minutes
    chosen = [location for location in locations if asked.store in location.name]
    if not chosen:
        names = ", ".join(repr(location.name) for location in locations)
        sys.stderr.write(f"no store is named {asked.store!r}: there are {names}\n")
        return CODES["inconclusive"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends it so wants the summary, too
    parts: list[Part] = []
    cut_short = ""
    try:
        run(chosen, asked, parts)
    except KeyboardInterrupt:
        cut_short = "it was interrupted"
    except Exception as error:
        logging.getLogger(__name__).exception("the run was cut short")
        cut_short = f"{type(error).__name__}: {error}"
        raise SystemExit(CODES["inconclusive"]) from error  # an error that nobody caught has the code of a violation
    finally:
        shard = f"{asked.shard.number}/{asked.shard.of}"
        report.write(asked.out, parts, asked.seed, shard, cut_short=cut_short)
        sys.stdout.write("\n".join(report.lines(parts, asked.seed, shard, cut_short=cut_short)) + "\n")
    return CODES[report.verdict(parts, cut_short=cut_short)]


if __name__ == "__main__":
    sys.exit(main())
