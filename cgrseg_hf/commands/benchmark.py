# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg benchmark`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..pretrained.locating import locate_model
from ..utils.messages import echo
from .data_options import (
    DeviceOption,
    TrustOption,
    announce,
    check_output_folder,
    parse_numbers,
    parse_pair,
    split_list,
)

_SEVERAL = " Separate several with spaces or commas."


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
        str, typer.Option(help="Engine of the network: torch, compile, onnxruntime, openvino." + _SEVERAL)
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
        str, typer.Option(help="Stages to time: preparation, network, post-processing, whole-path." + _SEVERAL)
    ] = "network",
    sizes: Annotated[
        str, typer.Option(help="Pixels of the input: 512 for a square, 512x1024 for height and width." + _SEVERAL)
    ] = "512",
    batch_sizes: Annotated[str, typer.Option(help="Images in one call of the network." + _SEVERAL)] = "1",
    threads: Annotated[
        str | None, typer.Option(help="Processor cores to use." + _SEVERAL, show_default="PyTorch's choice")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Photo, or folder of photos, for all stages but the network.", exists=True)
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Number of times to measure each; 0 to count only.")] = 15,
    device: DeviceOption = None,
    keep_freed_memory: Annotated[
        bool, typer.Option("--keep-freed-memory", help="Keep freed memory in the process, as predict does.")
    ] = False,
    trust_remote_code: TrustOption = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("runs/benchmark"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Count parameters and multiply-adds, and time a model by engine, form, precision, size and batch, beside others.

    All are measured in interleaved rounds in one process. benchmark.json has every time and what it depends on,
    latency.png shows them.
    """
    from ..benchmark.settings import CONFIGURATION_NAMES, BenchmarkSettings  # loads no PyTorch

    settings = BenchmarkSettings(
        models=[model, *(against or [])],
        engines=split_list(engines),
        forms=split_list(forms),
        precisions=split_list(precisions),
        stages=split_list(stages),
        sizes=[parse_pair(size, int, "--sizes") for size in split_list(sizes)],
        batch_sizes=parse_numbers(batch_sizes, int, "--batch-sizes"),
        threads=None if threads is None else parse_numbers(threads, int, "--threads"),
        photos=photos,
        rounds=rounds,
        device=device,
        keep_freed_memory=keep_freed_memory,
        trust_remote_code=trust_remote_code,
    )
    check_output_folder(output)
    for name in settings.models:
        locate_model(name, CONFIGURATION_NAMES)
    if not as_json:
        announce("Loading the models")

    from ..benchmark import format_report, make_report, run_benchmark, write_report

    result = run_benchmark(settings, progress=True)
    files = write_report(result, output)
    echo(json.dumps(make_report(result), indent=1, ensure_ascii=False) if as_json else format_report(result))
    echo(f"The report is in {' and '.join(map(str, files))}", err=as_json)
