"""JSON that an older program stored: which of it this library could not read, or could not write again."""

from __future__ import annotations

import json
import re
from typing import Final

from prompt_studio.values import JSON_DEPTH_MAX, JSON_DIGITS_MAX, is_storable

_SUSPECT: Final = re.compile(rf"\0|\\u(?:0000|[dD][89a-fA-F])|[0-9]{{{JSON_DIGITS_MAX + 1}}}")


def is_suspect(text: str | None) -> bool:
    """Whether JSON must be looked at by `trouble_with`; quick, and never too trusting."""
    if text is None:
        return False
    return text.count("[") + text.count("{") > JSON_DEPTH_MAX or _SUSPECT.search(text) is not None


def trouble_with(text: str) -> str | None:
    """What in a stored text breaks a limit of new ones, whatever Python's settings are; None when nothing does."""
    try:
        pending: list[tuple[object, int]] = [(json.loads(text, parse_int=_short_number), 1)]
    except OverflowError:
        return "has too long a number"
    except RecursionError:
        return "is too deep"
    except ValueError:
        return "is not JSON"
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str) and not is_storable(item):
            return "has U+0000 or a lone surrogate"
        if isinstance(item, (dict, list)):
            if depth > JSON_DEPTH_MAX:
                return "is too deep"
            children = [*item, *item.values()] if isinstance(item, dict) else item
            pending.extend((child, depth + 1) for child in children)
    return None


def _short_number(digits: str) -> int:
    if len(digits.removeprefix("-")) > JSON_DIGITS_MAX:
        raise OverflowError
    return 0
