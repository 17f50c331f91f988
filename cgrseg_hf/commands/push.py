# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg push`."""

from pathlib import Path
from typing import Annotated

import typer

from ..utils.messages import echo


def push(
    folder: Annotated[Path, typer.Argument(help="Folder of the model, with its image processor and card.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repo; it is made if it does not exist.")],
    report: Annotated[
        Path | None,
        typer.Option(help="Folder that evaluate wrote; names and images of the data are not sent.", show_default=False),
    ] = None,
    exports: Annotated[
        list[Path] | None, typer.Option(help="Folder that export wrote, to send too. May be repeated.")
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="Photo to show on the card with its classes; it is published. May be repeated."),
    ] = None,
    picture_credit: Annotated[
        str, typer.Option(help="Whose photos these are and their licence, in Markdown.", show_default=False)
    ] = "",
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Who sees a new repo; an existing one must be so already.",
            show_default="as the account has it",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to, made if need be.", show_default="main")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but send, and list what would be.")] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Also run and send code that is not this package's; handler.py and requirements.txt as they are.",
        ),
    ] = False,
) -> None:
    """
    Push a model to the Hugging Face Hub: weights, settings, code, card, evaluation, exports and pictures.

    First a process without this package loads the files and segments a picture. If the repo's card says that an earlier
    push has written there, its files that this push does not replace are deleted; other files stay. HF_ENDPOINT names
    another Hub.
    """
    from ..hub import push_folder

    pushed = push_folder(
        folder,
        repo_id,
        report=report,
        exports=exports or (),
        pictures=pictures or (),
        picture_credit=picture_credit,
        private=private,
        revision=revision,
        message=message,
        dry_run=dry_run,
        trust_remote_code=trust_remote_code,
    )
    for name, size in pushed.files.items():
        echo(f"{_size(size):>10}  {name}")
    for name in pushed.deleted or ():
        echo(f"{'delete' if pushed.url is None else 'deleted':>10}  {name}")
    if pushed.deleted is None:
        echo("The repo could not be read: it may have files of an earlier push.")
    echo(f"It loads without cgrseg_hf as {pushed.model_class.rpartition('.')[2]}, and segments.")
    total = f"{len(pushed.files)} files, {_size(sum(pushed.files.values()))}"
    echo(f"Nothing was sent: {total}." if pushed.url is None else f"Sent {total}: {pushed.url}")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
