# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards of folders that go to the Hub."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from cgrseg_hf.hub.cards import extend_card, read_card
from cgrseg_hf.pretrained import DEFAULT_MODEL

METADATA = "license: mit\nlibrary_name: transformers\npipeline_tag: image-segmentation\n"


def write(folder: Path, metadata: str = METADATA, text: str = "\n# A model\n") -> Path:
    (folder / "README.md").write_text(f"---\n{metadata}---\n{text}")
    return folder


def test_the_shipped_card_is_ready():
    assert read_card(DEFAULT_MODEL).data.license_name == "camvid-research-only"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (METADATA.replace("license: mit\n", ""), "license is missing"),
        (METADATA.replace("mit", "other"), r"license_name is missing.\n- .*license_link is missing"),
        (METADATA.replace("transformers", "timm"), "library_name is 'timm'"),
        (METADATA.replace("pipeline_tag: image-segmentation\n", ""), "pipeline_tag is None"),
        ("license: [\n", "cannot be read"),
        ("- a list\n", "cannot be read"),
        (METADATA + "model-index:\n- name: a\n  results:\n  - task: {}\n", "cannot be read"),
    ],
)
def test_metadata_that_are_not_ready(tmp_path: Path, metadata: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_card(write(tmp_path, metadata))


def test_card_that_says_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="nothing below the metadata"):
        read_card(write(tmp_path, text="\n"))


def test_a_later_push_replaces_what_an_earlier_one_added(tmp_path: Path):
    card = read_card(write(tmp_path, text="\n# A model\n\nIt segments.\n\n## Limits\n\nMany.\n"))
    assert "](pictures/my%20street%20%281%29.jpg)" in extend_card(
        card, "user/one", pictures=["pictures/my street (1).jpg"]
    )
    first = extend_card(card, "user/one", exports=["`onnx`: ONNX"], pictures=["pictures/a.jpg"], credit="Mine.")
    for part in ('model="user/one", trust_remote_code=True', "- `onnx`: ONNX", "](pictures/a.jpg)\n\nMine."):
        assert part in first
    second = extend_card(ModelCard(first), "user/two", revision="next")
    assert 'model="user/two", revision="next", trust_remote_code=True' in second
    assert "user/one" not in second and "Mine." not in second
    assert "It segments.\n\n<!--" in second and "-->\n\n## Limits\n" in second
    assert second.count("## From the Hub") == 1


def test_card_without_sections(tmp_path: Path):
    text = extend_card(read_card(write(tmp_path)), "user/one")
    assert text.index("# A model") < text.index("## From the Hub")
    assert "model's code" in text
    text = extend_card(read_card(write(tmp_path)), "user/one", has_code=False)
    assert 'model="user/one")' in text and "model's code" not in text
