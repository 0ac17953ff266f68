"""YAML that says where a scalar is none."""

from __future__ import annotations

import pytest
import yaml

from storage.placed_yaml import PlacedLoader


@pytest.mark.parametrize("value", ["2024-99-99", "!!int ''", "!!bool perhaps", "!!timestamp today"])
def test_what_yaml_cannot_convert_is_an_error_with_its_place(value: str) -> None:
    """Line and column, where PyYAML raises ValueError, IndexError, KeyError or AttributeError."""
    with pytest.raises(yaml.YAMLError, match=r"line 2, column 4"):
        yaml.load(f"a: 1\nb: {value}\n", PlacedLoader)


def test_what_it_can_convert_is_what_safe_yaml_gives() -> None:
    text = "a: 2024-01-02\nb: [1, yes, 1.5, ~]\n"
    assert yaml.load(text, PlacedLoader) == yaml.safe_load(text)
