# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The model as its users meet it: any size, loss, training, compilation, export, saving, other backbones."""

import copy

import pytest
import torch
from PIL import Image
from torch.export import Dim
from transformers import AutoModel, AutoModelForSemanticSegmentation, ConvNextV2Config, ResNetConfig, TimmBackboneConfig

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegModel
from cgrseg_hf.model.modeling_cgrseg import StripConvolution


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that all count; the initial scales of 1e-6 and zero gates would hide most of the model."""
    generator = torch.Generator().manual_seed(0)
    for name, values in model.state_dict().items():
        if name.endswith("running_var") or (values.ndim == 1 and name.endswith("normalization.weight")):
            values.uniform_(0.5, 1.5, generator=generator)
        elif values.ndim == 4:
            values.normal_(std=values[0].numel() ** -0.5, generator=generator)
        elif values.is_floating_point():
            values.normal_(std=0.1, generator=generator)
    return model


@pytest.fixture
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    return randomize(CGRSegForSemanticSegmentation(tiny_config())).eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (97, 211), (513, 1023), (512, 683), (64, 96)])
def test_any_size(model, height: int, width: int):
    with torch.no_grad():
        logits = model(torch.randn(1, 3, height, width)).logits
    assert logits.shape == (1, 5, -(-height // 8), -(-width // 8))
    assert logits.isfinite().all()


def test_padding_inside_equals_padding_outside(model):
    pixel_values = torch.randn(1, 3, 40, 70)
    padded = torch.nn.functional.pad(pixel_values, (0, 26, 0, 24))
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values).logits, model(padded).logits[..., :5, :9], rtol=0, atol=0)


def test_results_do_not_depend_on_the_batch(model):
    pixel_values = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        together = model(pixel_values).logits
        alone = torch.cat([model(pixel_values[index : index + 1]).logits for index in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_base_model_has_stride_eight(tiny_config):
    model = CGRSegModel(tiny_config()).eval()
    batch = CGRSegImageProcessor(do_resize=False)(Image.new("RGB", (96, 60)), return_tensors="pt")
    with torch.no_grad():
        assert model(**batch).last_hidden_state.shape == (1, 16, 8, 12)
        assert model(torch.randn(1, 3, 50, 70)).last_hidden_state.shape == (1, 16, 8, 12)  # of the padded input


def test_hidden_states_and_attentions(model):
    pixel_values = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        fused = model(pixel_values)
        outputs = model(pixel_values, output_hidden_states=True, output_attentions=True)
    shapes = [tuple(state.shape) for state in outputs.hidden_states]
    assert shapes == [(2, 16, 16, 24), (2, 16, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6), (2, 32, 2, 3)]
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 2, 6, 6), (2, 2, 6, 24), (2, 2, 6, 6)]
    torch.testing.assert_close(outputs.attentions[1].sum(-1), torch.ones(2, 2, 6))
    assert fused.hidden_states is None and fused.attentions is None
    torch.testing.assert_close(fused.logits, outputs.logits, rtol=0, atol=1e-5)


def test_eager_attention_equals_fused(model, tmp_path):
    model.save_pretrained(tmp_path)
    eager = CGRSegForSemanticSegmentation.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.cgrseg.backbone.config._attn_implementation == "eager"
    assert model.cgrseg.backbone.config._attn_implementation == "sdpa"
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = eager(pixel_values).logits
        torch.testing.assert_close(model(pixel_values).logits, expected, rtol=0, atol=1e-5)
        eager.set_attn_implementation("sdpa")
        assert eager.cgrseg.backbone.config._attn_implementation == "sdpa"
        torch.testing.assert_close(eager(pixel_values).logits, expected, rtol=0, atol=1e-5)


def test_strip_convolution_equals_the_whole_pictures():
    strip = StripConvolution(6, kernel_size=7)
    column, row = torch.randn(2, 6, 5, 1), torch.randn(2, 6, 1, 4)
    whole = torch.nn.functional.conv2d(column + row, strip.weight, strip.bias, padding=(0, 3), groups=6)
    torch.testing.assert_close(strip(column, row), whole)


def test_loss_is_the_mean_over_valid_pixels(model):
    pixel_values, labels = torch.randn(2, 3, 64, 96), torch.randint(0, 5, (2, 64, 96))
    labels[:, :20] = 255
    with torch.no_grad():
        outputs = model(pixel_values, labels=labels)
        logits = torch.nn.functional.interpolate(outputs.logits, size=(64, 96), mode="bilinear", align_corners=False)
        expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
        torch.testing.assert_close(outputs.loss, expected)
        model.config.loss_normalization = "all"
        torch.testing.assert_close(model(pixel_values, labels=labels).loss, expected * 44 / 64)


def test_loss_of_labels_at_another_size_covers_the_same_picture(model):
    # A gradient from left to right: at every size, the label changes at the same place.
    pixel_values = torch.randn(1, 3, 50, 90)
    labels = (torch.arange(90) >= 45).long().expand(1, 50, 90)
    with torch.no_grad():
        same = model(pixel_values, labels=labels).loss
        double = model(pixel_values, labels=labels.repeat_interleave(2, 1).repeat_interleave(2, 2)).loss
    torch.testing.assert_close(same, double, rtol=0, atol=2e-3)


@pytest.mark.parametrize("width", [33, 50, 97])
def test_loss_and_label_map_agree_on_where_things_are(model, width: int):
    # Logits that say "class 1" right of the middle: at every width the loss must be least for just these labels.
    half = width / 2
    columns = torch.arange(-(-width // 32) * 4) * 8 + 4
    ramp = (columns - half).expand(1, 1, 8, -1)
    logits = torch.cat([-ramp, ramp, *[torch.full_like(ramp, -999)] * 3], dim=1)
    model.head.register_forward_hook(lambda module, args, output: logits)
    labels = (torch.arange(width) + 0.5 > half).long().expand(1, 60, width)
    outputs = model(torch.zeros(1, 3, 60, width), labels=labels)
    label_map = CGRSegImageProcessor().post_process_semantic_segmentation(outputs, [(60, width)])[0]
    assert (label_map != labels[0]).sum() <= (60 if width % 2 else 0)  # a tie in the middle of an odd width
    assert outputs.loss < 0.1


def test_all_ignored_labels_give_zero_loss_with_gradients(model):
    loss = model(torch.randn(1, 3, 32, 32), labels=torch.full((1, 32, 32), 255)).loss
    loss.backward()
    assert loss.item() == 0.0
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("label", [5, 200, -100, -1])
def test_labels_that_do_not_exist_are_named(model, label: int):
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[0, 3, 4] = label
    with pytest.raises(ValueError, match=rf"\[{label}\].*num_labels=5"):
        model(torch.randn(1, 3, 32, 32), labels=labels)


def test_one_class_has_no_loss(tiny_config):
    model = CGRSegForSemanticSegmentation(tiny_config(num_labels=1)).eval()
    with pytest.raises(ValueError, match="use num_labels=2 with class 0 as the background"):
        model(torch.randn(1, 3, 32, 32), labels=torch.zeros(1, 32, 32, dtype=torch.long))


def test_fractional_labels_are_refused(model):
    with pytest.raises(ValueError, match=r"torch\.float32"):
        model(torch.randn(1, 3, 32, 32), labels=torch.zeros(1, 32, 32))


def test_a_single_image_without_batch_is_refused(model):
    with pytest.raises(ValueError, match=r"\(3, 32, 32\).*pixel_values\[None\]"):
        model(torch.randn(3, 32, 32))


@pytest.mark.parametrize(
    "switch", ["use_rcm_in_pyramid_context", "use_rcm_in_reconstruction", "use_dynamic_prototype_head"]
)
def test_each_part_can_be_switched_off(tiny_config, switch: str):
    full = CGRSegForSemanticSegmentation(tiny_config())
    ablated = CGRSegForSemanticSegmentation(tiny_config(**{switch: False}))
    assert ablated.num_parameters() < full.num_parameters()
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    ablated(torch.randn(2, 3, 32, 32), labels=labels).loss.backward()
    assert all(parameter.grad is not None for parameter in ablated.parameters())


def test_training_from_scratch_learns(tiny_config):
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config(num_labels=2)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    labels = torch.zeros(4, 32, 64, dtype=torch.long)
    labels[:, :, 32:] = 1
    pixel_values = labels[:, None].float() * 2 - 1 + 0.3 * torch.randn(4, 3, 32, 64)
    for _ in range(30):
        optimizer.zero_grad()
        model(pixel_values, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(pixel_values).logits.argmax(1)
    assert (predicted == labels[:, ::8, ::8]).float().mean() > 0.95  # with the statistics that training gathered


def test_frozen_batch_norm_keeps_the_backbones_statistics(tiny_config):
    model = CGRSegForSemanticSegmentation(tiny_config(freeze_backbone_batch_norm=True))
    assert model.training
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed and not any(name.startswith("cgrseg.backbone") for name in changed)


@pytest.mark.parametrize(
    "variant", ["plain", "copied", "synchronized", pytest.param("compiled", marks=pytest.mark.long)]
)
def test_activation_checkpointing_changes_nothing(tiny_config, variant: str):
    torch.manual_seed(0)
    plain = randomize(CGRSegForSemanticSegmentation(tiny_config(classifier_dropout_prob=0.0))).train()
    if variant == "synchronized":
        plain = torch.nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    checkpointed = copy.deepcopy(plain)
    checkpointed.activation_checkpointing_enable()
    if variant == "copied":
        checkpointed = copy.deepcopy(checkpointed)
    elif variant == "compiled":
        checkpointed = torch.compile(checkpointed, fullgraph=True, backend="aot_eager")
    pixel_values, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 5, (2, 64, 64))
    for model in (plain, checkpointed):
        model(pixel_values, labels=labels).loss.backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers()):
        torch.testing.assert_close(one, other, msg=name)  # statistics too are updated once


def test_copies_are_independent_and_equal(model):
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = model(pixel_values).logits
        duplicate = copy.deepcopy(model)
        torch.testing.assert_close(duplicate(pixel_values).logits, before, rtol=0, atol=0)
        for values in model.state_dict().values():
            values.mul_(2)
        assert not torch.allclose(model(pixel_values).logits, before)
        model.load_state_dict(duplicate.state_dict())
        torch.testing.assert_close(model(pixel_values).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(model, dtype: torch.dtype):
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixel_values).logits
        halved = copy.deepcopy(model).to(dtype)(pixel_values.to(dtype)).logits
    assert halved.dtype == dtype
    torch.testing.assert_close(halved.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())


def test_bfloat16_round_trip(model, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path, dtype="float32").dtype == torch.float32


def test_compiles_to_one_graph(model):
    pixel_values = torch.randn(2, 3, 40, 70)
    with torch.no_grad():
        # The "eager" backend runs the captured graph as it is: what is tested is that there is one.
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(pixel_values).logits, model(pixel_values).logits, rtol=0, atol=1e-5)


@pytest.mark.long
def test_training_step_compiles_to_one_graph(model):
    model.train()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    compiled(torch.randn(2, 3, 64, 64), labels=torch.zeros(2, 64, 64, dtype=torch.long)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class LogitsOnly(torch.nn.Module):
    """A model that returns a tensor, as exported programs should."""

    def __init__(self, model: CGRSegForSemanticSegmentation):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values).logits


@pytest.mark.parametrize(
    "example_size", [(544, 576), *(pytest.param(size, marks=pytest.mark.long) for size in [(512, 512), (300, 401)])]
)
def test_exported_program_takes_other_sizes(model, example_size: tuple[int, int]):
    dynamic_shapes = {"pixel_values": {0: Dim("batch"), 2: Dim("height", min=65), 3: Dim("width", min=65)}}
    program = torch.export.export(
        LogitsOnly(model), (torch.randn(2, 3, *example_size),), dynamic_shapes=dynamic_shapes
    ).module()
    with torch.no_grad():
        for size in [(1, 3, 512, 512), (1, 3, 512, 683), (3, 3, 97, 211), (2, 3, 544, 544)]:
            pixel_values = torch.randn(size)
            torch.testing.assert_close(program(pixel_values), model(pixel_values).logits, rtol=0, atol=1e-5)


def test_auto_classes_load_what_was_saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    pixel_values = torch.randn(1, 3, 64, 96)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, device_map="cpu")
    base = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CGRSegForSemanticSegmentation and type(base) is CGRSegModel
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits, rtol=0, atol=0)
        torch.testing.assert_close(
            base(pixel_values).last_hidden_state, model.cgrseg(pixel_values).last_hidden_state, rtol=0, atol=0
        )


def assert_fresh(classifier: torch.nn.Conv2d) -> None:
    assert not classifier.bias.any()
    assert 0.005 < classifier.weight.std() < 0.02


def test_initial_head(tiny_config):
    head = CGRSegForSemanticSegmentation(tiny_config(num_labels=19)).head
    assert_fresh(head.classifier)
    assert not head.gate_projection.weight.any() and not head.gate_projection.bias.any()


def test_another_number_of_classes_keeps_the_rest(model, tmp_path):
    model.save_pretrained(tmp_path)
    other = CGRSegForSemanticSegmentation.from_pretrained(tmp_path, num_labels=9, ignore_mismatched_sizes=True)
    assert other.head.classifier.weight.shape == (9, 16, 1, 1)
    assert_fresh(other.head.classifier)
    torch.testing.assert_close(other.head.class_score.state_dict(), model.head.class_score.state_dict())
    torch.testing.assert_close(other.cgrseg.state_dict(), model.cgrseg.state_dict())


@pytest.mark.parametrize(
    "backbone_config",
    [
        ConvNextV2Config(hidden_sizes=(8, 12, 16, 20), depths=(1, 1, 1, 1)),
        TimmBackboneConfig(backbone="resnet10t"),
    ],
)
def test_other_backbones(tiny_config, backbone_config, tmp_path):
    if isinstance(backbone_config, TimmBackboneConfig):
        pytest.importorskip("timm")
    config = CGRSegConfig(backbone_config=backbone_config, decoder_hidden_size=16, num_pyramid_blocks=1, num_labels=3)
    model = CGRSegForSemanticSegmentation(config).eval()
    model.save_pretrained(tmp_path)
    loaded = CGRSegForSemanticSegmentation.from_pretrained(tmp_path)
    pixel_values = torch.randn(1, 3, 97, 70)
    with torch.no_grad():
        logits = model(pixel_values).logits
        torch.testing.assert_close(loaded(pixel_values).logits, logits, rtol=0, atol=1e-5)
    assert logits.shape == (1, 3, 13, 9)


def test_wrong_strides_are_named():
    backbone_config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3"],
    )
    model = CGRSegForSemanticSegmentation(CGRSegConfig(backbone_config=backbone_config, decoder_hidden_size=8))
    with pytest.raises(ValueError, match=r"strides \(8, 16, 32\)"):
        model(torch.randn(1, 3, 64, 64))
