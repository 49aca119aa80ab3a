"""`python -m prompt_studio_model explore`: the one place where the model meets a clock and a terminal."""

import sys
from time import perf_counter

from prompt_studio_model.checking.command import Surroundings, main
from prompt_studio_model.worlds import WORLDS

AROUND = Surroundings(f"python -m {__package__}", sys.stdout.write, sys.stderr.write, perf_counter)
sys.exit(main(WORLDS, sys.argv[1:], AROUND))
