# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Rounds, memory, and a benchmark from its settings to its report."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from cgrseg_hf.benchmark import (
    BenchmarkSettings,
    Timing,
    format_report,
    measure_in_rounds,
    run_benchmark,
    write_report,
)
from cgrseg_hf.benchmark.contenders import PlainExport, load_source
from cgrseg_hf.benchmark.measuring import measure_peak_memory
from cgrseg_hf.benchmark.settings import STAGES

PHOTO = Path(__file__).parents[1] / "fixtures" / "photos" / "images" / "000000015517.jpg"
MIB = 2**20


def test_each_call_is_timed_once_a_round():
    calls = []
    timings = measure_in_rounds(
        {name: lambda index, name=name: calls.append((index, name)) for name in ("a", "b", "c")}, rounds=8, warm_up=1
    )
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 8, "b": 8, "c": 8}
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 9  # with the warm-up
    for number, round_calls in enumerate(rounds):
        assert {index for index, _ in round_calls} == {max(number - 1, 0)}
        assert sorted(name for _, name in round_calls) == ["a", "b", "c"]
    assert len({tuple(name for _, name in round_calls) for round_calls in rounds}) > 1  # not always the same neighbours


def test_median_and_spread():
    timing = Timing([float(value) for value in range(10, -1, -1)])
    assert timing.median == 5
    assert timing.spread == (1, 9)
    assert Timing([3.0]).spread == (3, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports it")
def test_the_peak_of_a_call_is_measured_though_it_is_freed():
    def use(mebibytes: int) -> None:
        torch.ones(mebibytes * MIB, dtype=torch.uint8)

    measure_peak_memory(lambda: use(1))  # whatever the first call of all sets up
    assert 60 < measure_peak_memory(lambda: use(64)) / MIB < 80  # the system counts pages in bunches
    assert measure_peak_memory(lambda: None) / MIB < 16


def test_models_with_random_weights_are_the_same_every_time():
    """Their exports are found again in the cache, and the caller's random numbers do not change."""
    state = torch.random.get_rng_state()
    first, second = (load_source("xs").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_plain_export_computes_the_models_logits(tiny_segformer):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    model = load_source(str(tiny_segformer)).model
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixel_values).logits
    for name in ("onnxruntime", "openvino"):
        engine = PlainExport(model, name, torch.float32, num_threads=1)
        torch.testing.assert_close(engine(pixel_values), expected, atol=1e-4, rtol=1e-4)


def test_all_contenders_in_all_stages(tiny_model, tiny_segformer, tmp_path):
    settings = BenchmarkSettings(
        models=[str(tiny_model), str(tiny_segformer)],
        stages=list(STAGES),
        sizes=[(32, 64), (64, 64)],
        batch_sizes=[1, 2],
        threads=[1],
        photos=PHOTO,
        rounds=2,
        device="cpu",
    )
    result = run_benchmark(settings)
    single = [row for row in result.measurements if (row.size, row.batch_size) == ((32, 64), 1)]
    names = {stage: [row.name for row in single if row.stage == stage] for stage in STAGES}
    contenders = ["tiny, torch, inference, float32", "tiny, torch, plain, float32", "other, torch, plain, float32"]
    assert names["network"] == names["whole-path"] == contenders
    assert names["preparation"] == names["post-processing"] == ["tiny", "other"]
    # Batches are for the network alone.
    assert len(result.measurements) == 2 * (2 * 3 + 2 * 2) + 2 * 3
    assert {row.stage for row in result.measurements if row.batch_size == 2} == {"network"}
    for row in result.measurements:
        assert len(row.timing.seconds) == 2
        assert row.images_per_second * row.timing.median == pytest.approx(row.batch_size)
        if row.name in ("tiny", contenders[0]):
            assert row.ratio == 1  # ratios are to the first

    file, plot = write_report(result, tmp_path / "report")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert len(report["measurements"]) == len(result.measurements)
    assert report["included"] == STAGES
    assert report["settings"]["photos"] == str(PHOTO)
    assert {"processor", "allocator", "rounds", "memory"} <= report["conditions"].keys()
    assert torch.__version__.startswith(report["versions"]["torch"])
    counted = [(count["model"], count["size"]) for count in report["counts"]]
    assert counted == [(model, size) for model in ("tiny", "other") for size in ([32, 64], [64, 64])]
    with Image.open(plot) as image:
        assert image.format == "PNG"
    text = format_report(result)
    assert all(expected in text for expected in (*STAGES.values(), *contenders, "32×64", "ms/megapixel"))


def test_what_cannot_run_is_named_and_the_rest_is_measured(tiny_segformer):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    settings = {"models": [str(tiny_segformer)], "precisions": ["bf16"], "sizes": [(32, 32)], "rounds": 1}
    result = run_benchmark(BenchmarkSettings(**settings, engines=["torch", "onnxruntime"], device="cpu"))
    assert [row.name for row in result.measurements] == ["other, torch, plain, bfloat16"]
    assert len(result.left_out) == 1
    assert result.left_out[0] in format_report(result)
    with pytest.raises(ValueError, match="Nothing is left"):
        run_benchmark(BenchmarkSettings(**settings, engines=["onnxruntime"]))


@pytest.mark.long
def test_exports_are_measured_beside_models(exported, tiny_segformer):
    """A folder that was exported before, and the exports that are made for the measurement."""
    settings = BenchmarkSettings(
        models=[str(exported("onnx").folder), str(tiny_segformer)],
        engines=["torch", "onnxruntime"],
        stages=["network", "whole-path"],
        sizes=[(32, 64)],
        threads=[1],
        photos=PHOTO,
        rounds=1,
        device="cpu",
    )
    result = run_benchmark(settings)
    names = {stage: [row.name for row in result.measurements if row.stage == stage] for stage in settings.stages}
    export, *plain = names["network"]
    assert export == "onnx, onnxruntime, export, float32"
    assert plain == ["other, torch, plain, float32", "other, onnxruntime, plain, float32"]
    assert names["whole-path"] == [export, plain[0]]  # transformers' pipeline runs no exports
    assert [model for model, _ in result.counts] == ["other"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engines": ["tensorrt"]}, "'tensorrt'"),
        ({"forms": ["fast"]}, "'fast'"),
        ({"precisions": ["int8"]}, "'int8'"),
        ({"stages": ["loading"]}, "'loading'"),
        ({"stages": ["whole-path"]}, "photos"),
        ({"sizes": [(0, 32)]}, "1 or more"),
        ({"batch_sizes": []}, "1 or more"),
        ({"device": "graphics"}, "'graphics'"),
        ({"models": ["xs", "xs"], "rounds": 0}, "same name"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        run_benchmark(BenchmarkSettings(**{"models": ["xs"], **settings}))
