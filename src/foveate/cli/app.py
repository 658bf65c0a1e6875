"""The commands of `foveate`, in the order in which people meet them."""

from typing import Annotated

import typer

from foveate._version import __version__
from foveate.cli.attend import attend
from foveate.cli.commands import Commands
from foveate.cli.compare import compare
from foveate.cli.evaluate import evaluate
from foveate.cli.export import export
from foveate.cli.inspect import inspect
from foveate.cli.listing import list_catalogue
from foveate.cli.predict import predict
from foveate.cli.profile import profile
from foveate.cli.report import report
from foveate.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    """Print the version and stop, if that is wanted."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def foveate(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Which attention mechanism helps on your pictures and videos, what does it cost, and does it look where it should?

    `foveate compare` without arguments answers on real handwriting that comes with the package.
    """


app.command("compare")(compare)
app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("predict")(predict)
app.command("attend")(attend)
app.command("report")(report)
app.command("profile")(profile)
app.command("inspect")(inspect)
app.command("export")(export)
app.command("list")(list_catalogue)
