"""A path through a world as text: what happened, what was answered, and what that changed.

Works on whatever the states are made of: records (NamedTuples and dataclasses), tuples of records, and plain values.
Records in a tuple are told apart by their first field, as rows are by their id. Fields that have their default are left
out, and so is, after its first field, a record in an answer that the state shows too: what changed says the rest.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prompt_studio_model.checking.explore import Step

INDENT: Final = " " * 8
MISSING: Final = object()


def fields(record: object) -> dict[str, Any]:
    """Return the fields of a NamedTuple or a dataclass by name; of anything else none."""
    if dataclasses.is_dataclass(record):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: getattr(record, name) for name in getattr(record, "_fields", ())}


def _defaults(record: object) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(record):
        return {field.name: field.default for field in dataclasses.fields(record)}
    defaults: Mapping[str, Any] = getattr(record, "_field_defaults", {})
    return defaults


def value(thing: object, shown: Sequence[object] = ()) -> str:
    """Return a short form of a value. Records in `shown` are only named."""
    if isinstance(thing, frozenset):
        return f"{{{', '.join(sorted(value(member, shown) for member in thing))}}}"
    content = fields(thing)
    if isinstance(thing, tuple) and not content:
        return f"({', '.join(value(part, shown) for part in thing)})"
    if not content:
        return repr(thing)
    defaults = _defaults(thing)
    if thing in shown:
        first = next(iter(content))
        return f"{type(thing).__name__}({first}={value(content[first])}, …)"
    told = [f"{name}={value(part, shown)}" for name, part in content.items() if part != defaults.get(name, MISSING)]
    return f"{type(thing).__name__}({', '.join(told)})"


def _records(thing: object) -> Iterator[object]:
    """Yield every record inside a value, itself included."""
    if hasattr(thing, "_fields"):
        yield thing
    if isinstance(thing, tuple | frozenset):
        for part in thing:
            yield from _records(part)


def _by_name(thing: object) -> dict[str, Any] | None:
    """Return the records of a tuple by their first field; None when it is no such tuple, or when two have one name."""
    if not isinstance(thing, tuple) or hasattr(thing, "_fields") or not all(hasattr(part, "_fields") for part in thing):
        return None
    named = {f"[{value(part[0])}]": part for part in thing}
    return named if len(named) == len(thing) else None


def difference(before: object, after: object, where: str = "") -> Iterator[str]:
    """Yield one line for each field, however deep, in which two values differ."""
    if before == after:
        return
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    if hasattr(before, "_fields") and type(before) is type(after):
        dot = "." if where else ""
        for name, part in fields(before).items():
            yield from difference(part, fields(after)[name], f"{where}{dot}{name}")
    elif (old := _by_name(before)) is not None and (new := _by_name(after)) is not None:
        for name in dict.fromkeys([*old, *new]):
            yield from difference(old.get(name, MISSING), new.get(name, MISSING), f"{where}{name}")
        if old.keys() == new.keys() and list(old) != list(new):
            yield f"{where}: order {' '.join(old)} → {' '.join(new)}"
    elif isinstance(before, frozenset) and isinstance(after, frozenset):
        yield from (f"{where}: - {value(member)}" for member in sorted(before - after, key=repr))
        yield from (f"{where}: + {value(member)}" for member in sorted(after - before, key=repr))
    elif before is MISSING:
        yield f"{where}: + {value(after)}"
    elif after is MISSING:
        yield f"{where}: - {value(before)}"
    else:
        yield f"{where}: {value(before)} → {value(after)}"


def step(taken: Step[Any, Any, Any]) -> tuple[str, str, list[str]]:
    """Return one step as text: what happened, what was answered, and a line for each change of the state."""
    shown = list(_records(taken.after))
    return value(taken.action), value(taken.answer, shown), list(difference(taken.before, taken.after))


def path(steps: Sequence[Step[Any, Any, Any]]) -> str:
    """Return a path as a numbered table: each step with its answer, and below it what it changed."""
    lines = []
    for number, taken in enumerate(steps, start=1):
        action, answer, changes = step(taken)
        lines.append(f"{number:>4}  {action} → {answer}")
        lines += [f"{INDENT}{change}" for change in changes or ["(nothing changed)"]]
    return "\n".join(lines)
