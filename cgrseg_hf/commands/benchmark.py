# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg benchmark`."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import echo

_SEVERAL = " Several with spaces or commas between."


def benchmark(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model or of an export, a Hugging Face Hub id, or with random weights xs, t, b, l."
        ),
    ] = "shipped",
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model in the same rounds: any of the above, segformer-b0, segformer-b1, segformer-b2, or the "
            "folder or Hub id of any semantic segmentation model of transformers. May be repeated."
        ),
    ] = None,
    engines: Annotated[
        str, typer.Option(help="What computes the network: torch, compile, onnxruntime, openvino." + _SEVERAL)
    ] = "torch",
    forms: Annotated[
        str,
        typer.Option(
            help="The inference form, or the plain model: as transformers runs it, as torch.onnx.export exports it."
            + _SEVERAL
        ),
    ] = "inference plain",
    precisions: Annotated[
        str, typer.Option(help="Type of the arithmetic: float32, bfloat16, float16; an export has its own." + _SEVERAL)
    ] = "float32",
    stages: Annotated[
        str, typer.Option(help="What is timed: preparation, network, post-processing, whole-path." + _SEVERAL)
    ] = "network",
    sizes: Annotated[
        str, typer.Option(help="Pixels of the input: 512 for a square, 512x1024 for height and width." + _SEVERAL)
    ] = "512",
    batch_sizes: Annotated[str, typer.Option(help="Images that the network takes at once." + _SEVERAL)] = "1",
    threads: Annotated[
        str | None, typer.Option(help="Processor cores to use." + _SEVERAL, show_default="PyTorch's choice")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Photo, or folder of photos, for all stages but the network.", exists=True)
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="How often each is measured; 0 to count only.")] = 15,
    device: Annotated[
        str | None,
        typer.Option(help="Where PyTorch runs, such as cpu or cuda:1.", show_default="a GPU if there is one"),
    ] = None,
    keep_freed_memory: Annotated[
        bool, typer.Option("--keep-freed-memory", help="Let freed memory stay with the process, as predict does.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("runs/benchmark"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Count parameters and multiply-adds, and time a model by engine, form, precision, size and batch, beside others.

    All are measured in turns in one process. benchmark.json has every time and what it depends on, latency.png the
    picture.
    """
    size_list = [_parse_size(text) for text in _split(sizes)]
    batch_size_list, thread_list = (
        _parse_numbers(text, option) for text, option in ((batch_sizes, "--batch-sizes"), (threads or "", "--threads"))
    )

    import torch

    from ..benchmark import BenchmarkSettings, format_report, make_report, run_benchmark, write_report

    settings = BenchmarkSettings(
        models=[model, *(against or [])],
        engines=_split(engines),
        forms=_split(forms),
        precisions=_split(precisions),
        stages=_split(stages),
        sizes=size_list,
        batch_sizes=batch_size_list,
        threads=thread_list or [torch.get_num_threads()],
        photos=photos,
        rounds=rounds,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        keep_freed_memory=keep_freed_memory,
    )
    result = run_benchmark(settings, progress=True)
    files = write_report(result, output)
    echo(json.dumps(make_report(result), indent=1, ensure_ascii=False) if as_json else format_report(result))
    echo(f"The report is in {' and '.join(map(str, files))}", err=as_json)
    if result.measurements and len(files) == 1:
        echo('For a picture, install matplotlib: pip install "cgrseg_hf[benchmark]"', err=True)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[\s,]+", text) if part]


def _parse_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is neither 512 nor 512x1024.", param_hint="--sizes")
    return int(found[1]), int(found[2] or found[1])


def _parse_numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in _split(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not made of whole numbers.", param_hint=option) from None
