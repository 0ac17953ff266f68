"""The base of every configuration model: frozen, and a wrong field is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A pydantic model that cannot be changed and takes no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
