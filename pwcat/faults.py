"""What is wrong with a recipe, in words: every fault once, at the place where the one who wrote it finds it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pwcat.providers.redaction import bare
from pwcat.samplers import STRATEGIES, PlainSampler

__all__ = ["describe_faults"]

# What a value should have been, where it is of the wrong kind.
KINDS = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "string_type": "a string",
}

# A key that some strategies have is told of, unless so many have it that it says nothing.
MOST_OWNERS = 2

Place = tuple[int | str, ...]


@dataclass(frozen=True)
class _Fault:
    """One fault.

    Attributes:
        where: keys and numbers that lead to it in the document, none of pydantic's own making.
        message: what is wrong.
        got: what was there, as it is shown.
        of_kind: what one member of a union would have taken here; empty where it is no such fault.
    """

    where: Place
    message: str
    got: str = ""
    of_kind: str = ""

    def __str__(self) -> str:
        steps = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.where)
        return f"{steps.removeprefix('.') or 'recipe'}: {self.message}{self.got}"


def describe_faults(path: Path, exc: ValidationError, *, document: Mapping[str, Any], more: Sequence[str] = ()) -> str:
    """Every fault of a document, one a line: where it is, what is wrong, what was got; then ``more`` of them, once each.

    Args:
        path: of the document.
        exc: what its validation found.
        document: as it was read.
        more: faults found elsewhere; those that the exception tells in one sentence are told one by one.
    """
    found = [_fault(error, document) for error in exc.errors()]
    told = [str(fault) for fault in _by_member(found) if fault.where or fault.message != "; ".join(more)]
    faults = list(dict.fromkeys([*told, *more]))
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return "\n  ".join([f"{path}: {count}, nothing was done", *faults])


def _by_member(faults: Sequence[_Fault]) -> list[_Fault]:
    """Pydantic tells of every member of a union that a value is not: here of the one it was meant for, or of all in one."""
    kinds: dict[Place, list[_Fault]] = {}
    for fault in faults:
        if fault.of_kind:
            kinds.setdefault(fault.where, []).append(fault)
    told = []
    for fault in faults:
        members = kinds.get(fault.where, [])
        if not fault.of_kind:
            told.append(fault)
        elif fault is members[0] and not _has_inner(fault.where, faults):
            wanted = ", or ".join(dict.fromkeys(member.of_kind for member in members))
            told.append(_Fault(fault.where, f"Input should be {wanted}", fault.got))
    return told


def _has_inner(where: Place, faults: Sequence[_Fault]) -> bool:
    inner = (fault for fault in faults if fault.where[: len(where)] == where)
    return any(not fault.of_kind or len(fault.where) > len(where) for fault in inner)


def _fault(error: ErrorDetails, document: Mapping[str, Any]) -> _Fault:
    loc, kind, got = error["loc"], error["type"], error["input"]
    where, written = _place(loc, document)
    if kind == "union_tag_invalid":
        return _Fault((*where, "strategy"), _no_strategy(error.get("ctx", {})))
    if kind == "union_tag_not_found":
        names = STRATEGIES if where == ("sampler",) else _plain()
        return _Fault((*where, "strategy"), f"Field required: one of {', '.join(names)}")
    if kind == "missing":
        return _Fault((*where, loc[-1]), "Field required")
    if kind == "extra_forbidden":
        return _Fault(where, _no_key(loc), _shown(got))
    if kind == "value_error":
        return _Fault(where, error["msg"].removeprefix("Value error, "), _shown(got) if written else "")
    wanted = KINDS.get(kind, error["msg"].removeprefix("Input should be "))
    message = f"Input should be {wanted}" if kind in KINDS else error["msg"]
    member = not written and loc[-1] != "[key]"
    return _Fault(where, message, _shown(got, mapping="a mapping"), wanted if member else "")


def _place(loc: Place, document: Mapping[str, Any]) -> tuple[Place, bool]:
    """The parts of pydantic's location that are in the document, and whether the last of them is.

    The others are names of members of unions, and fields that were left out.
    """
    where: list[int | str] = []
    value: Any = document
    found = True
    for part in loc:
        keys = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()
        found = part in keys
        if found:
            value = value[part]
            where.append(part)
    return tuple(where), found


def _shown(got: Any, *, mapping: str = "") -> str:
    if isinstance(got, Mapping):
        return f" (got {mapping})" if mapping else ""
    if got is None:
        return " (got nothing)"
    if isinstance(got, str) and "://" in got:
        got = bare(got)  # a fault is shown to others, too
    return f" (got {got.isoformat() if isinstance(got, date) else reprlib.repr(got)})"


def _plain() -> list[str]:
    """Names of the strategies that can be part of another."""
    return [name for name, document in STRATEGIES.items() if document in get_args(get_args(PlainSampler)[0])]


def _no_strategy(context: Mapping[str, Any]) -> str:
    name, known = str(context["tag"]), context["expected_tags"].replace("'", "")
    if name in STRATEGIES:
        return f"{name!r} cannot be part of another strategy: choose one of {known}"
    close = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? Choose" if close else "choose"
    return f"unknown strategy {name!r}: {hint} one of {known}"


def _no_key(loc: Place) -> str:
    """An unknown key; of a strategy, with the keys that it has, and the strategy that has this one."""
    strategy = loc[-2] if len(loc) > 1 else ""
    if strategy not in STRATEGIES:
        return "unknown key"
    keys = ", ".join(name for name in STRATEGIES[str(strategy)].model_fields if name != "strategy")
    owners = [name for name, document in STRATEGIES.items() if loc[-1] in document.model_fields]
    owned = f"; `{loc[-1]}` belongs to {' and '.join(owners)}" if 0 < len(owners) <= MOST_OWNERS else ""
    return f"unknown key of {strategy}, which has {keys}{owned}"
