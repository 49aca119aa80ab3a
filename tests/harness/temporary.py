"""Where temporary files are: in memory, if there is room for them.

No test is about a power cut, and whatever dies in a test, the files outlive it. A disk would only make each commit of
SQLite's wait for it. Who sets TMPDIR has chosen, and is not overruled.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only directories with names that nobody can guess are made in it
BYTES_LEAST: Final = 4 * 2**30
"""A container often has 64 MiB there; a shared run of all tests uses about a gigabyte."""
_VARIABLE: Final = "TMPDIR"


def use_memory(directory: Path = IN_MEMORY) -> None:
    """Let this process, and those that it will start, keep temporary files in memory. Does nothing without room."""
    if _VARIABLE in os.environ or not directory.is_dir():
        return
    if os.access(directory, os.W_OK) and shutil.disk_usage(directory).free >= BYTES_LEAST:
        os.environ[_VARIABLE] = str(directory)
        tempfile.tempdir = None  # whoever asked before must ask again
