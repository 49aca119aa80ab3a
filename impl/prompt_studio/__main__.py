"""`python -m prompt_studio`: see `migration_command`."""

import sys

from prompt_studio.migration_command import DONE, answer

if __name__ == "__main__":
    text, code = answer(sys.argv[1:])
    print(text, file=sys.stdout if code == DONE else sys.stderr)
    sys.exit(code)
