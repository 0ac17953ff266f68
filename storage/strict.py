"""The base of every configuration model: frozen, and a wrong field is refused; fields that came later; and how a message speaks of a name
that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

LATER = "later"
"""Marks a field that was added to a configuration after others had run: `x: Annotated[int, LATER] = Field(1)`. At its default it is left
out of the fingerprint, so that an upgrade which changes nothing makes nothing stale (RULE 7). The default must do what was done before."""

MAX_LISTED = 8  # names: a longer list hides what a message says


class Strict(BaseModel):
    """A pydantic model that cannot be changed and takes no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def hashed_fields(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields of a configuration that bear on its fingerprint: all but those marked `LATER` that stand at their default."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if LATER not in field.metadata or value != field.get_default(call_default_factory=True):
            yield name, value


def choices(name: str, allowed: Iterable[str], heading: str = "there are") -> str:
    """How a message about the unknown `name` ends: what is most like it, then every allowed name, or how many if more than 8."""
    names = list(dict.fromkeys(allowed))
    near = nearest(name, names)
    meant = f"; did you mean {' or '.join(f'`{other}`' for other in near)}?" if near else ""
    listed = (", ".join(names) or "none") if len(names) <= MAX_LISTED else f"{len(names)} names"
    return f"{meant}; {heading}: {listed}"


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names most like `name`, the likeliest first, three at most; none where none is like it."""
    names = list(names)
    return difflib.get_close_matches(name, names, n=3, cutoff=0.6) or [other for other in names if name and name in other][:1]
