# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From settings to the report."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf.benchmark import BenchmarkSettings, format_report, make_report, run_benchmark, write_report
from cgrseg_hf.benchmark.settings import STAGES
from cgrseg_hf.benchmark.sources import load_source

PHOTO = Path(__file__).parents[1] / "fixtures" / "photos" / "images" / "000000015517.jpg"


@pytest.fixture(scope="module")
def result(tiny_model, tiny_segformer):
    """All stages of two models at two sizes, in one precision that one of them cannot run in."""
    return run_benchmark(
        BenchmarkSettings(
            models=[str(tiny_model), str(tiny_segformer)],
            stages=list(STAGES),
            sizes=[(32, 64), (64, 64)],
            batch_sizes=[1, 2],
            threads=[1],
            photos=PHOTO,
            rounds=2,
        )
    )


def test_every_contender_is_measured_in_every_stage(result):
    single = [one for one in result.measurements if (one.size, one.batch_size) == ((32, 64), 1)]
    names = {stage: [one.name for one in single if one.stage == stage] for stage in STAGES}
    contenders = [
        "tiny, torch, inference, float32",
        "tiny, torch, plain, float32",
        "other, torch, plain, float32",
    ]
    assert names["network"] == names["whole-path"] == contenders
    assert names["preparation"] == names["post-processing"] == ["tiny", "other"]
    assert all(len(one.timing.seconds) == 2 for one in result.measurements)
    # Several photos at once are for the network alone.
    assert {one.stage for one in result.measurements if one.batch_size == 2} == {"network"}
    assert len(result.measurements) == 2 * (2 * 3 + 2 * 2) + 2 * 3


def test_ratios_are_to_the_first_and_throughput_counts_images(result):
    for one in result.measurements:
        if one.name in ("tiny", "tiny, torch, inference, float32"):
            assert one.ratio == 1
        assert one.images_per_second * one.timing.median == pytest.approx(one.batch_size)


def test_the_report_has_everything(result, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    file, picture = write_report(result, tmp_path / "report")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert len(report["measurements"]) == len(result.measurements)
    assert report["included"] == STAGES
    assert {"processor", "allocator", "rounds", "memory"} <= report["conditions"].keys()
    assert torch.__version__.startswith(report["versions"]["torch"])
    assert [(one["model"], one["size"]) for one in report["counts"]] == [
        ("tiny", [32, 64]),
        ("tiny", [64, 64]),
        ("other", [32, 64]),
        ("other", [64, 64]),
    ]
    with Image.open(picture) as image:
        assert image.format == "PNG"
    text = format_report(result)
    for expected in (*STAGES.values(), "tiny, torch, inference, float32", "32×64", "ms/megapixel", "batch"):
        assert expected in text
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert write_report(result, tmp_path / "report") == [file]
    assert not picture.exists()  # it was of the report before


def test_counting_alone_beside_the_paper():
    result = run_benchmark(BenchmarkSettings(models=["t", "segformer-b0"], rounds=0))
    assert not result.measurements
    paper = {one["model"]: one["paper"] for one in make_report(result)["counts"]}
    assert paper == {
        "CGRSeg-T": {"parameters": 9.4, "multiply_adds": 4.0},
        "SegFormer-B0": {"parameters": 3.8, "multiply_adds": 8.4},
    }
    assert "9.4 M, 4.0 G" in format_report(result)
    elsewhere = run_benchmark(BenchmarkSettings(models=["t"], sizes=[(256, 256)], rounds=0))
    assert make_report(elsewhere)["counts"][0]["paper"] is None  # the paper has no other size


def test_what_cannot_run_is_named_and_the_rest_is_measured(tiny_segformer, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    result = run_benchmark(
        BenchmarkSettings(
            models=[str(tiny_segformer)],
            engines=["torch", "onnxruntime"],
            precisions=["bfloat16"],
            sizes=[(32, 32)],
            rounds=1,
        )
    )
    assert [one.name for one in result.measurements] == ["other, torch, plain, bfloat16"]
    assert len(result.left_out) == 1
    assert "onnxruntime" in format_report(result)
    pytest.importorskip("matplotlib")
    _, picture = write_report(result, tmp_path)  # of one size: bars
    with Image.open(picture) as image:
        blue = (np.asarray(image.convert("RGB")) == (31, 119, 180)).all(axis=2)
    assert blue.sum() > 0.1 * blue.size  # the only bar fills most of it


@pytest.mark.long
def test_exports_are_measured_beside_models(exported, tiny_segformer):
    """A folder that was exported before, and those that are made for the measurement."""
    folder = exported("onnx").folder
    result = run_benchmark(
        BenchmarkSettings(
            models=[str(folder), str(tiny_segformer)],
            engines=["torch", "onnxruntime"],
            stages=["network", "whole-path"],
            sizes=[(32, 64)],
            threads=[1],
            photos=PHOTO,
            rounds=1,
        )
    )
    names = {stage: [one.name for one in result.measurements if one.stage == stage] for stage in result.settings.stages}
    export, *plain = names["network"]
    assert export == "onnx, onnxruntime, export, float32"
    assert plain == ["other, torch, plain, float32", "other, onnxruntime, plain, float32"]
    assert names["whole-path"] == [export, plain[0]]  # transformers' pipeline runs no exports
    assert [model for model, _ in result.counts] == ["other"]


def test_nothing_is_left_to_measure(tiny_model):
    settings = BenchmarkSettings(models=[str(tiny_model)], engines=["onnxruntime"], precisions=["bfloat16"])
    with pytest.raises(ValueError, match="Nothing is left to measure: choose other engines"):
        run_benchmark(settings)


def test_models_without_weights_have_the_first_models_classes(tiny_model):
    first = load_source(str(tiny_model))
    assert load_source("segformer-b0", first.model.config.num_labels).model.config.num_labels == 5
    assert load_source("xs").model.config.num_labels == 150


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engines": ["tensorrt"]}, "no engine 'tensorrt'"),
        ({"forms": ["fast"]}, "no form 'fast'"),
        ({"precisions": ["int8"]}, "no precision 'int8'"),
        ({"stages": ["loading"]}, "no stage 'loading'"),
        ({"stages": ["whole-path"]}, "need photos"),
        ({"sizes": [(0, 32)]}, "1 or more"),
        ({"batch_sizes": []}, "1 or more"),
        ({"device": "graphics"}, "device='graphics' cannot be used here"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkSettings(models=["xs"], **settings)


def test_a_model_is_not_compared_to_itself(tiny_model):
    with pytest.raises(ValueError, match="same name"):
        run_benchmark(BenchmarkSettings(models=[str(tiny_model), str(tiny_model)]))
