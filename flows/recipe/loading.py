"""A recipe from its file, in two rounds: each part by itself, then what the parts must agree on."""

from __future__ import annotations

from flows.recipe.checks import problems_of
from flows.recipe.reading import find_file, load, refusal
from flows.recipe.recipe import Recipe


def load_recipe(name: str) -> Recipe:
    """The recipe of that path, or of that name in flows/recipes. Raises ConfigError with a line for each wrong field."""
    path = find_file(name, "recipes")
    recipe = load(path, Recipe)
    if problems := problems_of(recipe):
        raise refusal(str(path), problems)
    return recipe
