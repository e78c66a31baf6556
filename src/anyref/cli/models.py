"""`anyref models`: what can be given to --model."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the models that come with anyref."""
    from anyref.pipelines.loading import SHIPPED

    table = Table("model", "what it is", box=None)
    for name, description in SHIPPED.items():
        table.add_row(name, description)
    console = Console()
    console.print(table)
    console.print(
        "A folder that `anyref convert` wrote can be given instead of a name.", highlight=False
    )
