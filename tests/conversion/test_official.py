# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of the reference code, there and back."""

import pytest
import torch

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.conversion import from_official, to_official


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit, every key."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def checkpoint(official_state_dict) -> dict[str, torch.Tensor]:
    return official_state_dict("t")


@pytest.mark.parametrize("size", ["t", "b", "l"])
def test_there_and_back_bit_for_bit(official_state_dict, size: str):
    state_dict = official_state_dict(size)
    assert_equal(to_official(from_official(state_dict)), state_dict)


def test_settings_are_read_off_the_tensors(official_state_dict):
    config = from_official(official_state_dict("b")).config
    preset = CGRSegConfig.from_preset("b", num_labels=150, num_pyramid_blocks=6, loss_normalization="all")
    assert config.to_dict() == preset.to_dict()


def test_a_model_of_other_settings_comes_back(tiny_config):
    config = tiny_config(
        num_labels=3, strip_kernel_size=5, square_kernel_size=5, mlp_ratio=3, backbone_config={"image_size": 96}
    )
    model = CGRSegForSemanticSegmentation(config)
    again = from_official(to_official(model), loss_normalization="valid")
    assert again.config.to_dict() == config.to_dict()
    assert_equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("wrapping", ["state_dict", "module.", "ema_", "module.ema_", "beside ema_"])
def test_known_wrappings(checkpoint, wrapping: str):
    if wrapping == "state_dict":
        source = {"meta": {"epoch": 3}, "state_dict": checkpoint, "optimizer": {}}
    elif wrapping == "beside ema_":
        averaged = {f"ema_{name.replace('.', '_')}": torch.zeros_like(tensor) for name, tensor in checkpoint.items()}
        source = {"state_dict": {**checkpoint, **averaged}}
    else:
        source = {"state_dict": {wrapping + name: tensor for name, tensor in checkpoint.items()}}
    assert_equal(to_official(from_official(source)), checkpoint)


def test_averaged_weights_on_request(checkpoint):
    parameters = {name: tensor for name, tensor in checkpoint.items() if tensor.is_floating_point()}
    averaged = {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in parameters.items()}
    model = from_official({**checkpoint, **averaged}, use_ema=True)
    torch.testing.assert_close(model.head.classifier.bias.data, checkpoint["decode_head.conv_seg.bias"] + 1)
    with pytest.raises(ValueError, match="no averaged weights"):
        from_official(checkpoint, use_ema=True)


def test_overrides(checkpoint):
    config = from_official(checkpoint, classifier_dropout_prob=0.3, backbone_config={"drop_path_rate": 0.2}).config
    assert (config.classifier_dropout_prob, config.backbone_config.drop_path_rate) == (0.3, 0.2)
    assert config.backbone_config.depths == [3, 3, 9, 6]
    for wrong, said in (
        ({"clasifier_dropout_prob": 0.3}, "classifier_dropout_prob"),
        ({"backbone_config": {"droppath_rate": 0.3}}, "drop_path_rate"),
        ({"backbone_config": [0.3]}, "backbone_config=list"),
    ):
        with pytest.raises(ValueError, match=said):
            from_official(checkpoint, **wrong)


def test_file_with_class_names(checkpoint, tmp_path):
    classes = tuple(f"class {index}" for index in range(150))
    torch.save({"meta": {"CLASSES": classes}, "state_dict": checkpoint}, tmp_path / "iter_160000.pth")
    model = from_official(tmp_path / "iter_160000.pth")
    assert model.config.id2label[149] == "class 149"
    assert_equal(to_official(model), checkpoint)


def test_what_does_not_fit_is_listed(checkpoint):
    damaged = dict(checkpoint)
    del damaged["decode_head.linear_fuse.conv.weight"]
    damaged["auxiliary_head.conv_seg.bias"] = torch.zeros(3)
    damaged["decode_head.SIM.0.fuse1.bn.bias"] = torch.zeros(7)
    with pytest.raises(ValueError) as error:
        from_official(damaged)
    for words in (
        "Missing (1):\n  decode_head.linear_fuse.conv.weight",
        "Left over (1):\n  auxiliary_head.conv_seg.bias",
        "decode_head.SIM.0.fuse1.bn.bias: (7,), expected (128,)",
    ):
        assert words in str(error.value)


def test_other_numbering_of_distances_is_noticed(checkpoint):
    name = "backbone.network.4.7.token_mixer.attention_bias_idxs_seg"
    with pytest.raises(ValueError, match="numbered otherwise"):
        from_official({**checkpoint, name: checkpoint[name].flip(0)})


@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(1)}, {}, {"state_dict": {}}, {"a": 1}])
def test_something_else_is_refused(content: dict):
    with pytest.raises(ValueError, match=r"not of CGRSeg's|no tensors"):
        from_official(content)


class Harmful:
    """Unpickles to a call, as a malicious checkpoint would."""

    def __reduce__(self):
        return print, ("this must not be printed",)


def test_files_with_code_or_without_tensors_are_refused(checkpoint, tmp_path, capsys):
    torch.save({"state_dict": checkpoint, "hook": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(ValueError, match="could run code"):
        from_official(tmp_path / "harmful.pth")
    assert "must not" not in capsys.readouterr().out
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds a list"):
        from_official(tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        from_official(tmp_path / "nowhere.pth")


def test_ablated_models_have_no_official_form(tiny_config):
    with pytest.raises(ValueError, match="use_dynamic_prototype_head off"):
        to_official(CGRSegForSemanticSegmentation(tiny_config(use_dynamic_prototype_head=False)))
