# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What an export leaves behind: export.json, or nothing but a message."""

import copy
import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
)

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessorPil, __version__
from cgrseg_hf.engines.export_settings import ExportSettings, is_export, read_settings
from cgrseg_hf.export import ParityError, export_model
from cgrseg_hf.export.checks import find_photos
from cgrseg_hf.export.exporting import _read_photo
from cgrseg_hf.export.parity import SIZES, compare, make_picture


@pytest.fixture(scope="module")
def segformer() -> SegformerForSemanticSegmentation:
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=4,
    )
    return SegformerForSemanticSegmentation(config).eval()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_for_the_engine_and_for_transformers(exported, decided_model):
    folder = exported("openvino").folder
    names = set(contents(folder))
    assert {"model.xml", "model.bin", "config.json", "preprocessor_config.json", "export.json"} <= names
    assert is_export(folder) and is_export(str(folder))
    assert AutoConfig.from_pretrained(folder).id2label == decided_model.config.id2label
    size = AutoImageProcessor.from_pretrained(folder).size
    assert (size.shortest_edge, size.longest_edge) == (96, 400)


def test_export_json(exported):
    report = exported("openvino")
    content = json.loads((report.folder / "export.json").read_text())
    assert (content["format"], content["precision"], content["file"]) == ("openvino", "float32", "model.xml")
    assert (content["input"], content["output"], content["size"]) == ("pixel_values", "logits", None)
    assert read_settings(report.folder) == report.settings == ExportSettings("openvino")

    parity = content["parity"]
    assert parity["tolerance"] == {"logit_difference": 1e-3, "equal_labels": 0.999}
    assert [tuple(one["size"]) for one in parity["comparisons"]] == list(SIZES)
    assert parity["logit_difference"] == max(one["logit_difference"] for one in parity["comparisons"])
    assert 0 <= parity["logit_difference"] < 1e-3 * min(one["largest_logit"] for one in parity["comparisons"])
    assert parity["equal_labels"] == report.parity.equal_labels > 0.999

    assert content["versions"]["cgrseg_hf"] == __version__
    assert content["versions"]["torch"] == importlib.metadata.version("torch")
    assert {"python", "transformers", "openvino"} <= set(content["versions"])
    assert "onnx" not in content["versions"]


def test_export_json_is_enough_to_run_the_file(exported, decided_folder, photos):
    """Someone with ONNX Runtime and that file alone gets the labels that the image processor gives."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = exported("onnx", size=(128, 160)).folder  # of one size, since any size takes a minute to export
    content = json.loads((folder / "export.json").read_text())
    takes, gives = content["takes"], content["gives"]
    session = onnxruntime.InferenceSession(folder / content["file"])
    with Image.open(sorted(photos.glob("*.jpg"))[0]) as photo:
        pixels = np.asarray(photo.convert(takes["channels"]).resize((160, 128)))
    values = (pixels * takes["rescale_factor"] - takes["mean"]) / takes["std"]
    (logits,) = session.run(
        [content["output"]], {content["input"]: np.moveaxis(values, -1, 0)[None].astype(takes["type"])}
    )
    assert takes["shape"] == [1, 3, 128, 160]
    assert logits.dtype == gives["type"]
    assert logits.shape[:2] == (1, gives["shape"][1])
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(logits), scale_factor=gives["stride"], mode="bilinear", align_corners=False
    )
    labels = resized[0].argmax(dim=0).numpy()

    model = CGRSegForSemanticSegmentation.from_pretrained(decided_folder).eval()
    image_processor = AutoImageProcessor.from_pretrained(decided_folder)
    inputs = image_processor(pixels, do_resize=False, return_tensors="pt")
    with torch.no_grad():
        (expected,) = image_processor.post_process_semantic_segmentation(model(**inputs), [pixels.shape[:2]])
    assert (labels == expected.numpy()).mean() > 0.999
    assert (content["size"], read_settings(folder).size) == ([128, 160], (128, 160))
    assert {tuple(one["size"]) for one in content["parity"]["comparisons"]} == {(128, 160)}
    assert {"onnx", "onnxscript", "onnxruntime"} <= set(content["versions"])
    assert content["classes"] == {str(class_id): name for class_id, name in model.config.id2label.items()}


def test_export_json_of_pictures_and_label_maps(exported):
    report = exported("openvino", include_preprocessing=True, include_argmax=True)
    content = json.loads((report.folder / "export.json").read_text())
    assert (content["input"], content["output"]) == ("image", "labels")
    assert content["takes"] == {
        "type": "uint8",
        "shape": ["batch", "height", "width", 3],
        "channels": "RGB",
        "values": "0 to 255",
    }
    assert (content["gives"]["type"], content["gives"]["shape"]) == ("uint8", ["batch", "height", "width"])
    assert content["parity"]["logit_difference"] is None
    assert content["parity"]["equal_labels"] > 0.999
    assert read_settings(report.folder) == report.settings


def test_another_model_is_noticed(opened, tiny_config, decided_folder):
    torch.manual_seed(1)
    other = CGRSegForSemanticSegmentation(tiny_config()).eval()
    image_processor = AutoImageProcessor.from_pretrained(decided_folder)
    report = compare(opened("openvino"), other, image_processor)
    with pytest.raises(ParityError, match=r"on a made-up picture of 65×96 a logit is off by .* is tolerated"):
        report.check()
    report = compare(opened("openvino", include_preprocessing=True, include_argmax=True), other, image_processor)
    with pytest.raises(ParityError, match=r"of the labels are equal, and at least 99\.00% are asked for"):
        report.check()


def test_comparison_on_photos(opened, decided_model, decided_folder, photos):
    image_processor = AutoImageProcessor.from_pretrained(decided_folder)
    named = [(photo.name, _read_photo(photo)) for photo in find_photos(photos, 2, ExportSettings())]
    report = compare(opened("openvino"), decided_model, image_processor, named)
    assert [one.picture for one in report.comparisons[:5]] == ["a photo"] * 5
    assert [one.picture for one in report.comparisons[5:]] == ["000000010014.jpg", "000000012280.jpg"]
    assert all(min(one.size) == 96 for one in report.comparisons[5:])
    report.check()


@pytest.mark.parametrize("settings", [{}, {"include_preprocessing": True, "include_argmax": True}])
@pytest.mark.long
def test_four_bands(tiny_config, tmp_path, photos, settings):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config(backbone_config={"num_channels": 4})).eval()
    report = export_model(model, tmp_path / "out", "openvino", **settings)
    assert report.parity.equal_labels > 0.999
    assert len(AutoImageProcessor.from_pretrained(report.folder).image_mean) == 4
    with pytest.raises(ValueError, match="photos of three channels, and the model takes 4"):
        export_model(model, tmp_path / "other", "openvino", calibration=photos)


def test_a_failed_export_leaves_what_was_there(exported, decided_model, tmp_path):
    earlier = shutil.copytree(exported("openvino").folder, tmp_path / "earlier")
    before = contents(earlier)
    broken = copy.deepcopy(decided_model)
    broken.head.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(ParityError, match=r"off by nan.*Nothing was kept"):
        export_model(broken, earlier, "openvino", overwrite=True)
    assert list(tmp_path.iterdir()) == [earlier]
    assert contents(earlier) == before


@pytest.mark.long
def test_the_callers_model_stays_as_it_is(decided_model, tmp_path):
    model = copy.deepcopy(decided_model).train().to(torch.bfloat16)
    (tmp_path / "empty").mkdir()  # is not in the way
    report = export_model(model, tmp_path / "empty", "torch", size=(64, 96))
    assert report.folder == tmp_path / "empty"
    assert read_settings(report.folder) == report.settings == ExportSettings("torch", size=(64, 96))
    assert model.training and model.dtype == torch.bfloat16
    assert AutoConfig.from_pretrained(report.folder).id2label == model.config.id2label


def test_folders_of_others_are_left_alone(tmp_path, decided_folder):
    (tmp_path / "thesis.txt").write_text("of years")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="exists and is not an earlier export: choose another folder"):
            export_model(decided_folder, tmp_path, "openvino", overwrite=overwrite)
        with pytest.raises(ValueError, match="exists and is not an earlier export"):
            export_model(decided_folder, tmp_path / "thesis.txt", "openvino", overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.txt": b"of years"}


def test_earlier_exports_are_kept_unless_told(exported, decided_folder):
    folder = exported("openvino").folder
    before = contents(folder)
    with pytest.raises(ValueError, match=r"holds an earlier export: .*--overwrite"):
        export_model(decided_folder, folder, "openvino")
    assert contents(folder) == before


def test_an_export_is_no_model_to_export(exported, tmp_path):
    with pytest.raises(ValueError, match="is an export already: give the model that it was made from"):
        export_model(exported("openvino").folder, tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "tflite"}, "Unknown format='tflite': use one of 'onnx', 'openvino', 'torch'"),
        ({"precision": "int4"}, "Unknown precision='int4'"),
        ({"format": "onnx", "precision": "bfloat16"}, "no bfloat16 convolutions.*format='openvino'"),
        ({"format": "onnx", "precision": "bf16"}, "no bfloat16 convolutions"),
        ({"format": "torch", "precision": "int8"}, "for the formats 'onnx' and 'openvino'"),
        ({"format": "openvino", "precision": "int8"}, "needs calibration"),
        ({"precision": "int8", "calibration": []}, "needs calibration"),
        ({"max_calibration": 0}, "use at least one photo"),
        ({"calibration": "no/such/folder"}, "'no/such/folder' is not a folder of photos"),
        ({"size": (512,)}, "give height and width"),
        ({"size": (0, 512)}, "give height and width"),
        ({"opset": 17}, "opset=17 is too old: use 18 or more"),
    ],
)
def test_refusals_in_words(decided_folder, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        export_model(decided_folder, tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


def test_image_processors_without_a_counterpart(decided_model, segformer, tmp_path):
    antialiased = CGRSegImageProcessorPil(antialias=True)
    with pytest.raises(ValueError, match="antialias=True: export without it"):
        export_model(decided_model, tmp_path / "out", image_processor=antialiased, include_preprocessing=True)
    with pytest.raises(ValueError, match="not SegformerImageProcessorPil"):
        export_model(
            segformer, tmp_path / "out", image_processor=SegformerImageProcessorPil(), include_preprocessing=True
        )
    assert not list(tmp_path.iterdir())


def test_calibration_photos(photos, tmp_path):
    files = find_photos(photos, 128, ExportSettings())
    assert files == sorted(photos.glob("*.jpg"))
    assert find_photos(str(photos), 4, ExportSettings()) == files[::3]
    array = make_picture((40, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    Image.fromarray(array).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    found = find_photos([array, Image.fromarray(array), tmp_path / "turned.png", array[..., 0]], 10, ExportSettings())
    for photo in found[:3]:
        np.testing.assert_array_equal(_read_photo(photo), array)
    assert _read_photo(found[3]).shape == (40, 50, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        find_photos(tmp_path / "empty", 10, ExportSettings())


def test_argmax_is_for_cgrseg_alone(segformer, tmp_path):
    with pytest.raises(ValueError, match=r"this is a segformer: export logits"):
        export_model(segformer, tmp_path / "out", include_argmax=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_other_models(segformer, tmp_path):
    pytest.importorskip("openvino")
    report = export_model(segformer, tmp_path / "out", "openvino", image_processor=SegformerImageProcessorPil())
    assert report.parity.equal_labels > 0.999
    assert AutoConfig.from_pretrained(report.folder).model_type == "segformer"
