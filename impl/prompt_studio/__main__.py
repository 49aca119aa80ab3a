"""`python -m prompt_studio`: see `migration_command` and `work_command`."""

import sys

from prompt_studio import migration_command, work_command
from prompt_studio.command import DONE, new_parser


def main() -> int:
    """Run the command that was asked for, and print its answer."""
    parser = new_parser()
    commands = parser.add_subparsers(dest="command", required=True)
    migration_command.add_to(commands)
    work_command.add_to(commands)
    asked = parser.parse_args()
    text, code = asked.run(asked)
    print(text, file=sys.stdout if code == DONE else sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
