"""Tables as the terminal shows them, for tests to read."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def rendered(table: Table) -> list[str]:
    """The table's rows, white space squeezed."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return [" ".join(line.split()) for line in capture.get().splitlines()]
