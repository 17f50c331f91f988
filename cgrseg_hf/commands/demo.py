# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg demo`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..pretrained.locating import SHIPPED, expand_shipped, locate_model
from ..utils.messages import echo
from .data_options import DeviceOption, EngineOption, TrustOption, announce


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of a model or of an export, or a Hugging Face Hub id. May be repeated: visitors choose.",
            show_default="shipped",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other computers in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7860,
    engine: EngineOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels that a photo may have; larger ones are not decoded.")
    ] = 16_000_000,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds that a photo may take, once it is its turn.")
    ] = 60.0,
    queue_size: Annotated[int, typer.Option(min=1, help="Visitors that may wait; others are told to come again.")] = 16,
    concurrency: Annotated[int, typer.Option(min=1, help="Photos that are segmented at a time.")] = 1,
) -> None:
    """
    Serve a web page that segments photos: classes, shares, heat maps, and the label map to download.

    It listens to this computer only, unless --host says otherwise, and works without a connection.
    """
    names = [expand_shipped(name) for name in dict.fromkeys(model or [SHIPPED])]
    for name in names:
        locate_model(name)
    announce("Loading the page and the models")

    from ..demo import find_port, import_gradio, serve

    import_gradio()  # what is missing or taken is said before time is spent on models
    port = find_port(host, port)

    from ..inference import Segmenter

    segmenters: dict[str, Segmenter] = {}
    for name in names:
        title = Path(name).resolve().name if Path(name).is_dir() else name  # visitors do not learn where folders are
        if title in segmenters:
            title = f"{title} ({len(segmenters) + 1})"
        segmenters[title] = Segmenter.from_pretrained(
            name, engine, device, max_pixels=max_pixels, trust_remote_code=trust_remote_code
        )
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the page's folder is deleted
    serve(
        segmenters,
        host,
        port,
        time_limit=time_limit,
        queue_size=queue_size,
        concurrency=concurrency,
        say=echo,
    )
