# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The `cgrseg` command."""

import os
import sys

import typer

from .. import __version__
from .ablate import ablate
from .check_data import check_data
from .evaluate import evaluate
from .train import train

app = typer.Typer(
    name="cgrseg",
    help="CGRSeg, efficient semantic segmentation: train and evaluate models, check data sets.",
    epilog="With CGRSEG_DEBUG=1 in the environment, an error shows where it arose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(evaluate)
app.command(name="check-data")(check_data)
app.command()(ablate)


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Show the version and leave.", is_eager=True),
) -> None:
    """Options of the command itself."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; what the user got wrong is said in a line and ends with exit code 1."""
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("CGRSEG_DEBUG"):
            raise
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
