"""YAML whose scalars say where they are none: PyYAML lets the errors of its own conversions through, without a place."""

from __future__ import annotations

from typing import Any

import yaml


class PlacedLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """SafeLoader that raises a YAMLError with line and column for a date, number or truth value that is none (`2024-99-99`)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises yaml.YAMLError."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            problem = f"not a {node.tag.rpartition(':')[2]}, as which YAML reads it; in quotes it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
