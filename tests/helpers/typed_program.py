# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a program of somebody who checks types looks like; test_typing.py checks it, and nothing runs it."""

from pathlib import Path

import numpy as np
from PIL import Image

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.conversion import from_official, to_official
from cgrseg_hf.data import SegmentationData, load_data
from cgrseg_hf.evaluation import EvaluationResult, MeanIoU, evaluate_model
from cgrseg_hf.export import ExportReport, export_model
from cgrseg_hf.inference import Segmentation, Segmenter, Video
from cgrseg_hf.visualization import draw_heat_map, draw_overlay


def segment(photo: Path) -> dict[str, float]:
    segmenter = Segmenter.from_pretrained(engine="onnxruntime", num_threads=2)
    segmentation: Segmentation = segmenter(photo, return_logits=True)
    segmentation.overlay(opacity=0.5).save("overlay.png")
    probability: np.ndarray = segmentation.probability_map("road", size=(120, 160))
    heat_map: Image.Image = draw_heat_map(Image.open(photo), probability)
    heat_map.save("heat.png")
    label_map: np.ndarray = segmentation.label_map
    draw_overlay(Image.open(photo), label_map, segmentation.id2label).show()
    for frame in segmenter(Video("street.mp4")):
        print(frame.area_shares)
    return segmentation.area_shares


def score(folder: Path, predicted: list[np.ndarray], true: list[np.ndarray]) -> EvaluationResult:
    metric = MeanIoU(num_labels=11)
    metric.add_batch(predictions=predicted, references=true)
    data: SegmentationData = load_data(folder, "validation", dataset="camvid")
    model = CGRSegForSemanticSegmentation.from_pretrained("runs/mine/best")
    return evaluate_model(model, CGRSegImageProcessor.from_pretrained("runs/mine/best"), data, limit=10)


def convert_and_export(checkpoint: str) -> ExportReport:
    config = CGRSegConfig(num_labels=11)
    model: CGRSegForSemanticSegmentation = from_official(checkpoint)
    print(config.num_labels, sorted(to_official(model)))
    return export_model(model, "exported", "openvino", size=(512, 512))


if __name__ == "__main__":
    segment(Path("photo.jpg"))
