"""Every figure of the README is printed by a script here, next to its peer's on the same input."""
