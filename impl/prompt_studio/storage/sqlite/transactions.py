"""The transaction commands of SQLite, as named statements."""

from __future__ import annotations

from typing import Final

from prompt_studio.storage.statements import Statement

BEGIN_WRITE: Final = Statement("begin_write", "BEGIN IMMEDIATE")
"""Takes the write lock at once. A plain BEGIN takes it at the first write, when a rival may have written since our
first read; SQLite then refuses at once, and no waiting helps."""
