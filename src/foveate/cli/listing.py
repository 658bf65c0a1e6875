"""foveate list: the mechanisms, networks and data that have a name."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from foveate.cli.options import Json

__all__ = ["list_catalogue"]


class Kind(StrEnum):
    """What can be listed."""

    mechanisms = "mechanisms"
    networks = "networks"
    data = "data"


def list_catalogue(
    kind: Annotated[Kind | None, typer.Argument(help="Only this kind.")] = None,
    as_json: Json = False,
) -> None:
    """Name what there is: mechanisms, networks and data.

    Example: foveate list mechanisms
    """
    kinds = [kind] if kind else list(Kind)
    tables = {each.value: entries(each) for each in kinds}
    if as_json:
        print(json.dumps(tables[kind.value] if kind else tables, indent=2))
        return
    for title, rows in tables.items():
        print_table(title, rows)


def entries(kind: Kind) -> list[dict[str, Any]]:
    """The catalogue of one kind, an entry a dictionary."""
    if kind is Kind.mechanisms:
        from foveate.layers.catalogue import MECHANISMS

        return [asdict(mechanism) for mechanism in MECHANISMS.values()]
    if kind is Kind.networks:
        from foveate.networks.catalogue import NETWORKS

        return [asdict(network) for network in NETWORKS.values()]
    from foveate.data import KINDS

    return [{"data": name, "what": what} for name, what in KINDS.items()]


# What fits a terminal; --json has every field.
SHOWN = {
    "mechanisms": ("name", "family", "place", "summary"),
    "networks": ("name", "task", "input", "paper"),
    "data": ("data", "what"),
}


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Show the columns of one kind that fit a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in SHOWN[title]:
        table.add_column(column, no_wrap=column in ("name", "data", "task", "input"))
    for row in rows:
        table.add_row(*(escape(str(row[column])) for column in SHOWN[title]))
    Console().print(table)
    print()
