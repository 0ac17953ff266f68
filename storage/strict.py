"""The base of every configuration model: frozen, and a wrong field is refused; and how a message speaks of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

MAX_LISTED = 8  # names: a longer list hides what a message says


class Strict(BaseModel):
    """A pydantic model that cannot be changed and takes no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


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
