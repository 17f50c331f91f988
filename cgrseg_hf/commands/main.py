# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The `cgrseg` command."""

import io
import logging
import pickle
import re
import sys
import traceback
import warnings
from typing import Annotated

import typer

from .. import __version__
from ..utils.messages import did_you_mean, echo, printable, reason_of
from .ablate import ablate
from .benchmark import benchmark
from .card import card
from .check_data import check_data
from .convert import convert
from .demo import demo
from .evaluate import evaluate
from .export import export
from .info import info
from .predict import predict
from .push import push
from .train import train

# What the user, or a file, got wrong. PyTorch refuses weights that could run code by the last.
_EXPECTED = (ValueError, OSError, ImportError, pickle.UnpicklingError)
_PICKLE = (
    "the model's weights hold more than tensors, and are not loaded, since unpickling them could run code. Take a copy "
    "with safetensors weights."
)

app = typer.Typer(
    name="cgrseg",
    help="CGRSeg, efficient semantic segmentation: segment photos, train, evaluate, time, export and publish models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut names in narrow terminals
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the list of all commands, each has a line of a terminal of 80 columns.
for command, summary in {
    predict: "Segment photos and videos: overlays, classes and areas.",
    train: "Train a model on images with label maps.",
    evaluate: "Score a model on a data set: mean IoU, and class by class.",
    check_data: "Look through a data set for faults before training.",
    ablate: "Train the paper's ablation of the decoder.",
    benchmark: "Count parameters and operations, and time models.",
    export: "Export a model to ONNX, OpenVINO or torch.export.",
    demo: "Serve a web page that segments photos.",
    convert: "Turn a checkpoint of the authors' code into a model, or back.",
    info: "Show versions, devices, engines, and kept exports.",
    card: "Write a model's card from its evaluation and your words.",
    push: "Push a model to the Hugging Face Hub.",
}.items():
    app.command(name=command.__name__.replace("_", "-"), short_help=summary)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error arose; works after the command's name as well.")
    ] = False,
) -> None:
    """Options of the command itself."""


def _in_our_words(message: str) -> str:
    """A message of Typer's, without the words of what it checks values by, and with what was perhaps meant."""
    message = message.removeprefix("Value error, ")
    if choices := re.search(r"'([^']*)' is not one of ((?:'[^']*'(?:, )?)+)\.", message):
        message += did_you_mean(choices[1], re.findall("'([^']*)'", choices[2]))
    return message


class _PrintableFormatter(logging.Formatter):
    """Log names of files and classes so that the terminal does not obey control characters in them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main() -> None:
    """Run the command; what the user got wrong is said in a line and ends with exit code 1."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter())
    logging.basicConfig(handlers=[handler])
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Names of files need not be text that can be printed, and the escapes are those of JSON.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # What Pillow and GDAL report on damaged images beside their errors names no file, and goes on for pages.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("PIL", "rasterio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except Exception as error:
        if hasattr(error, "show"):  # an error of Typer's over arguments: its class differs between releases
            error.message = error.message and printable(_in_our_words(error.message))
            error.show()
            sys.exit(error.exit_code)
        # Typer takes an EOFError, wherever it comes from, for the end of what somebody types.
        fault = (isinstance(error, typer.Abort) and error.__cause__) or error
        debug, reason = "--debug" in sys.argv, reason_of(fault)
        if not debug and reason != str(fault):
            echo(f"Error: a setting of the model does not fit: {reason}", err=True, color="red")
        elif debug or not isinstance(fault, _EXPECTED):
            echo("".join(traceback.format_exception(fault)), err=True, nl=False)
        elif isinstance(fault, pickle.UnpicklingError):
            echo(f"Error: {_PICKLE}", err=True, color="red")
        else:
            echo(f"Error: {fault}", err=True, color="red")
        sys.exit(1)
