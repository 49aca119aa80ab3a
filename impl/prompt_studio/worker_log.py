"""A worker's log on standard error: what each record says, with the facts that came with it, as words or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

TEXT: Final = "text"
JSON: Final = "json"

_APART: Final = frozenset(' "=')

# What every record has; whatever else one has are the facts that came with it.
_ALWAYS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _ALWAYS}


class TextFormatter(logging.Formatter):
    """A line: time, level, message, then `name=value` for each fact, whose value is quoted where it is not one word."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it if there is one."""
        known = "".join(f" {name}={_word(value)}" for name, value in facts(record).items())
        line = f"{_time(record)} {record.levelname} {_printable(record.getMessage())}{known}"
        return "\n".join([line, *self._trace(record)])

    def _trace(self, record: logging.LogRecord) -> list[str]:
        return [self.formatException(record.exc_info)] if record.exc_info else []


class JsonFormatter(logging.Formatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; what is not JSON in it is told as text, and a fact whose name is the record's own as `name_`."""
        told: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        own = frozenset(told) | {"error"}
        told |= {f"{name}_" if name in own else name: value for name, value in facts(record).items()}
        return f"{{{', '.join(f'{_json(name)}: {_json(value)}' for name, value in told.items())}}}"


def log_to_standard_error(level: str, form: str) -> None:
    """Send every record of this level or above there, in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == JSON else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError):  # NaN and its like, keys that are no texts, a list that is in itself
        return json.dumps(str(value))


def _word(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not _APART.intersection(text):
        return text
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)


def _printable(text: str) -> str:
    """The text without line ends, and whatever else would make more of a line than one."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
