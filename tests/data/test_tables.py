# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Metadata files, parquet, saved data sets and data sets on the Hub: the same pairs as from folders."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
from datasets.exceptions import DatasetNotFoundError
from helpers.pairs import assert_same_pairs, ids_of, names_of, write_annotation, write_pair
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from cgrseg_hf.data import SegmentationData, SplitNotFoundError, load_data, tables

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"
TWO_NAMES = {0: "ground", 1: "sky"}


@pytest.fixture
def expected(two_class_folder) -> SegmentationData:
    """The pairs to train on, from the folder."""
    return load_data(two_class_folder, "train")


def as_table(data: SegmentationData, image="image", annotation="annotation", has_names=True) -> datasets.Dataset:
    """The pairs with the files' bytes, as data sets on the Hub are."""
    rows = [
        {
            column: {"path": path.name if has_names else None, "bytes": path.read_bytes()}
            for column, path in ((image, Path(row["image"]["path"])), (annotation, Path(row["annotation"]["path"])))
        }
        for row in data.rows
    ]
    features = datasets.Features({image: datasets.Image(), annotation: datasets.Image()})
    return datasets.Dataset.from_list(rows, features=features)


def write_metadata(folder: Path, *pairs: tuple[str, str]) -> None:
    lines = [json.dumps({"file_name": image, "annotation_file_name": annotation}) for image, annotation in pairs]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize(
    "files",
    [
        {"train": "train-00000-of-00001.parquet", "val": "validation-00000-of-00001.parquet"},
        {"train": "data/train-00000-of-00001.parquet", "val": "data/val-00000-of-00001.parquet"},
        {"train": "train.parquet", "val": "val.parquet"},
        {"train": "train/0000.parquet", "val": "validation/0000.parquet"},
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(two_class_folder, tmp_path, files, streaming):
    expected = {split: load_data(two_class_folder, split) for split in files}
    for split, file in files.items():
        (tmp_path / "parquet" / file).parent.mkdir(parents=True, exist_ok=True)
        as_table(expected[split]).to_parquet(tmp_path / "parquet" / file)
    for split in files:
        data = load_data(tmp_path / "parquet", split, id2label=TWO_NAMES, streaming=streaming)
        assert data.split == split
        assert_same_pairs(data, expected[split])
    with pytest.raises(SplitNotFoundError, match="'test', but train, val"):
        load_data(tmp_path / "parquet", "test", id2label=TWO_NAMES)


def test_parquet_without_splits(expected, tmp_path):
    (tmp_path / "parquet").mkdir()
    as_table(expected).to_parquet(tmp_path / "parquet" / "0000.parquet")
    data = load_data(tmp_path / "parquet", "validation", id2label=TWO_NAMES)
    assert data.split is None
    assert_same_pairs(data, expected)


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_data_sets(expected, tmp_path, streaming):
    table = as_table(expected)
    datasets.DatasetDict({"train": table, "valid": table.select([2])}).save_to_disk(tmp_path / "both")
    table.save_to_disk(tmp_path / "one")
    table.save_to_disk(tmp_path / "each" / "train")
    table.select([2]).save_to_disk(tmp_path / "each" / "valid")
    for folder in ("both", "one", "each"):
        data = load_data(tmp_path / folder, "train", id2label=TWO_NAMES, streaming=streaming)
        assert data.split == (None if folder == "one" else "train")
        assert_same_pairs(data, expected)
    for folder in ("both", "each"):
        assert names_of(load_data(tmp_path / folder, "validation", id2label=TWO_NAMES)) == ["c.jpg"]
        with pytest.raises(SplitNotFoundError, match=r"'test', but .*valid"):
            load_data(tmp_path / folder, "test", id2label=TWO_NAMES)


def test_metadata_file_without_splits():
    data = load_data(PHOTOS, "train")
    assert len(data) == 12 and data.num_labels == 171 and data.split is None
    example = data.read(data.rows[3])
    truth = np.asarray(Image.open(PHOTOS / "annotations" / example.name.replace(".jpg", ".png")))
    assert np.array_equal(example.label_map, truth)


@pytest.mark.parametrize(("kind", "streaming"), [("jsonl", False), ("jsonl", True), ("parquet", False)])
def test_metadata_file_in_each_split(two_class_folder, kind, streaming):
    for split, names in {"train": "abc", "val": "d"}.items():
        folder = two_class_folder / split
        for name in names:  # these need not be alike where a file tells what belongs together
            (folder / "annotations" / f"{name}.png").rename(folder / "annotations" / f"mask_{name}.png")
        write_metadata(folder, *((f"images/{name}.jpg", f"annotations/mask_{name}.png") for name in names))
        if kind == "parquet":
            lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
            datasets.Dataset.from_list(lines).to_parquet(folder / "metadata.parquet")
            (folder / "metadata.jsonl").unlink()
    data = load_data(two_class_folder, "train", streaming=streaming)
    assert data.split == "train" and ids_of(data) == [0, 1]
    assert names_of(data) == ["a.jpg", "b.jpg", "c.jpg"]
    assert names_of(load_data(two_class_folder, "validation")) == ["d.jpg"]


def test_metadata_files_in_the_wrong_folder_are_refused(two_class_folder, tmp_path):
    pairs = [
        (f"{split}/images/{name}.jpg", f"{split}/annotations/{name}.png")
        for split, name in (("train", "a"), ("val", "d"))
    ]
    write_metadata(two_class_folder, *pairs)
    with pytest.raises(ValueError, match="train, validation"):
        load_data(two_class_folder, "train")
    two_class_folder.rename(tmp_path / "train")  # splits within a split
    with pytest.raises(ValueError, match="train, validation"):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_metadata_file_is_read_anew_when_it_changes(two_class_folder):
    for name in "ab":
        write_metadata(two_class_folder / "train", ("images/a.jpg", f"annotations/{name}.png"))
        (row,) = load_data(two_class_folder, "train").rows
        assert row["annotation"]["path"].endswith(f"{name}.png")


@pytest.mark.parametrize("streaming", [False, True])
def test_names_in_tables_tell_the_convention(two_class_folder, annotations, streaming):
    write_annotation(annotations / "a_labelTrainIds.png", ids=(11, 170))
    write_metadata(two_class_folder / "train", ("images/a.jpg", "annotations/a_labelTrainIds.png"))
    assert ids_of(load_data(two_class_folder, "train", "coco-stuff-164k", streaming=streaming)) == [11, 170]
    raw = load_data(two_class_folder, "train", "coco-stuff-164k", label_ids="raw", streaming=streaming)
    with pytest.raises(ValueError, match=r"\[11\]"):
        ids_of(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"file_name": "images/a.jpg", "text": "a photo"}\n' * 2, r"image \(Image\), text \(string\)"),
        ("images/a.jpg annotations/a.png", r'metadata file in .*train .*\{"file_name": "images/a.jpg"'),
    ],
)
def test_metadata_files_that_cannot_be_used(two_class_folder, annotations, content, message):
    (two_class_folder / "train" / "metadata.jsonl").write_text(content)
    shutil.rmtree(annotations)
    with pytest.raises(ValueError, match=message):
        load_data(two_class_folder, "train")


def test_metadata_file_that_names_missing_files(two_class_folder):
    write_metadata(two_class_folder / "train", ("images/a.jpg", "annotations/nowhere.png"))
    with pytest.raises(ValueError, match=r"annotations/nowhere\.png"):
        ids_of(load_data(two_class_folder, "train"))


def test_folders_without_annotations_and_other_metadata_do_not_hide_the_masks(tmp_path):
    write_pair(tmp_path / "train/images/a.png", tmp_path / "train/masks/a.png")
    (tmp_path / "train/annotations").mkdir()
    (tmp_path / "train/annotations/a.json").write_text("{}")
    (tmp_path / "train/metadata.csv").write_text("photographer,date\nsomebody,today\n")
    assert ids_of(load_data(tmp_path, "train", id2label=TWO_NAMES)) == [0, 1]


@pytest.mark.parametrize(
    ("image", "annotation"),
    [("pixel_values", "label"), ("Image", "Mask"), ("jpg", "png"), ("image", "seg"), ("x", "gt")],
)
def test_columns_are_found_by_name_or_content(expected, tmp_path, image, annotation):
    as_table(expected, image, annotation).save_to_disk(tmp_path / "saved")
    assert_same_pairs(load_data(tmp_path / "saved", "train", id2label=TWO_NAMES), expected)


def test_columns_by_given_names(expected, tmp_path):
    table = as_table(expected, "photo", "first").add_column("author", ["me"] * 3)
    table = table.map(lambda row: {"second": row["first"]})
    table.save_to_disk(tmp_path / "saved")
    table.select_columns("author").save_to_disk(tmp_path / "words")
    data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES, annotation_column="second")
    assert_same_pairs(data, expected)
    for folder, column, message in (
        ("saved", None, r"photo \(Image\), first .*author \(string\)"),
        ("words", None, r"There are author \(string\)\."),
        ("saved", "secand", "Did you mean second"),
        ("saved", "author", "annotation_column='author'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_data(tmp_path / folder, "train", id2label=TWO_NAMES, annotation_column=column)


def test_rows_without_file_names_are_numbered(expected, annotations, tmp_path):
    write_annotation(annotations / "b.png", ids=(9,))
    as_table(expected, has_names=False).save_to_disk(tmp_path / "saved")
    for streaming in (False, True):
        data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES, streaming=streaming)
        assert names_of(data) == ["0", "1", "2"]
        with pytest.raises(ValueError, match="the annotation of row 1 "):
            ids_of(data, 1)


def test_rows_name_files_by_address_or_name_none(expected, tmp_path):
    row = expected.rows[0]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(row["annotation"]["path"], "a.png")
    image = {"path": Path(row["image"]["path"]).as_uri(), "bytes": None}
    annotations = [{"path": f"zip://a.png::{tmp_path / 'all.zip'}", "bytes": None}, None, {"path": None, "bytes": None}]
    file = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"image": file, "annotation": file})
    rows = [{"image": image, "annotation": annotation} for annotation in annotations]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES)
    assert ids_of(data) == [0, 1]
    for index, message in ((1, "the row has none"), (2, "neither a path nor bytes")):
        with pytest.raises(ValueError, match=f"annotation of .*{message}"):
            ids_of(data, index)


def test_streamed_folder_equals_the_folder(two_class_folder, expected):
    data = load_data(two_class_folder, "train", streaming=True)
    assert isinstance(data.rows, datasets.IterableDataset)
    assert_same_pairs(data, expected)
    with pytest.raises(TypeError, match="no length"):
        len(data)
    assert data  # not mistaken for empty
    assert_same_pairs(pickle.loads(pickle.dumps(data)), expected)  # as workers get it


@pytest.fixture
def hub(two_class_folder, tmp_path, monkeypatch) -> Path:
    """The files of user/ground_and_sky, and of any other data set on the Hub."""
    repo = tmp_path / "hub"
    repo.mkdir()
    for split in ("train", "validation"):
        as_table(load_data(two_class_folder, split)).to_parquet(repo / f"{split}-00000-of-00001.parquet")
    errors = {
        "user/with_script": RuntimeError("Dataset scripts are no longer supported, but found with_script.py"),
        "user/nowhere": DatasetNotFoundError("Dataset 'user/nowhere' doesn't exist on the Hub or cannot be accessed."),
        "user/broken": RuntimeError("The checksums differ."),
        "user/far_away": ConnectionError("Couldn't reach 'user/far_away' on the Hub"),
    }

    def redirect(function):
        def call(repo_id: str, *arguments, revision: str | None = None, **settings):
            if repo_id in errors and revision is None:
                raise errors[repo_id]
            return function(repo_id if repo_id == "parquet" else str(repo), *arguments, **settings)

        return call

    monkeypatch.setattr(tables, "load_dataset", redirect(datasets.load_dataset))
    monkeypatch.setattr(tables, "get_dataset_split_names", redirect(datasets.get_dataset_split_names))
    return repo


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("repo_id", ["user/ground_and_sky", "user/with_script"])
def test_hub(two_class_folder, hub, repo_id, streaming):
    for split in ("train", "val"):
        data = load_data(repo_id, split, id2label=TWO_NAMES, streaming=streaming)
        assert_same_pairs(data, load_data(two_class_folder, split))
    assert ("refs/convert/parquet" in data.description) == (repo_id == "user/with_script")
    with pytest.raises(SplitNotFoundError, match="'test', but train, validation"):
        load_data(repo_id, "test", id2label=TWO_NAMES, streaming=streaming)


def test_class_names_on_the_hub(two_class_folder, hub, monkeypatch):
    def download(repo_id: str, file: str, repo_type: str) -> str:
        if not (two_class_folder / file).exists():
            raise LocalEntryNotFoundError("neither on the Hub nor in the cache")
        return str(two_class_folder / file)

    monkeypatch.setattr("cgrseg_hf.data.loading.hf_hub_download", download)
    assert load_data("user/ground_and_sky", "train").id2label == TWO_NAMES
    (two_class_folder / "id2label.json").unlink()
    with pytest.raises(ValueError, match="user/ground_and_sky"):
        load_data("user/ground_and_sky", "train")


@pytest.mark.parametrize(
    ("repo_id", "message"),
    [("user/nowhere", "doesn't exist"), ("user/far_away", "cannot be reached"), ("user/broken", "checksums differ")],
)
def test_hub_failures(hub, repo_id, message):
    with pytest.raises(ValueError, match=f"{repo_id} .*{message}"):
        load_data(repo_id, "train", id2label=TWO_NAMES)


def test_a_mistyped_folder_where_the_hub_does_not_answer(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"no folder 'nosuchfolder'"):
        load_data("nosuchfolder", "train")


def test_streams_without_columns(hub):
    for file in hub.glob("*.parquet"):
        file.unlink()
    (hub / "train.csv").write_text("image,annotation\na.jpg,a.png\n")
    with pytest.raises(ValueError, match="user/ground_and_sky"):
        load_data("user/ground_and_sky", "train", id2label=TWO_NAMES, streaming=True)
