# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of CGRSeg and of its EfficientFormerV2 backbone, and the sizes of the paper as presets.

CGRSeg: Context-Guided Spatial Feature Reconstruction for Efficient Semantic Segmentation, ECCV 2024 (arXiv 2405.06228).
EfficientFormerV2: Rethinking Vision Transformers for MobileNet Size and Speed, ICCV 2023 (arXiv 2212.08059).
"""

import copy
import difflib
from dataclasses import fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin
from transformers.utils import auto_docstring

# Every size of the model is a multiple of this many input pixels: the stride of the deepest backbone stage.
SIZE_DIVISOR = 32


@auto_docstring(
    custom_intro="Configuration of an [`EfficientFormerV2Backbone`]; the defaults are those of the S1 size."
)
@strict
class EfficientFormerV2Config(BackboneConfigMixin, PreTrainedConfig):
    r"""
    num_channels (`int`, *optional*, defaults to 3):
        Channels of the input picture.
    image_size (`int`, *optional*, defaults to 512):
        Height and width in pixels, a multiple of 32, for which the attention bias tables are laid out. Other inputs
        work: the biases are resized to them. 512 is CGRSeg's, 224 that of the ImageNet checkpoints.
    hidden_sizes (`list[int]`, *optional*, defaults to `[32, 48, 120, 224]`):
        Channels of each of the four stages (strides 4, 8, 16 and 32).
    depths (`list[int]`, *optional*, defaults to `[3, 3, 9, 6]`):
        Blocks in each stage.
    num_attention_blocks (`int`, *optional*, defaults to 2):
        How many of the last blocks of stage 3, and of stage 4, begin with attention.
    mlp_expansion_ratios (`int` or `list`, *optional*):
        Expansion of every block's feed-forward part: one number for all, or a number or a list of numbers for each
        stage. By default those of EfficientFormerV2-S1.
    num_attention_heads (`int`, *optional*, defaults to 8):
        Heads of every attention.
    attention_key_size (`int`, *optional*, defaults to 32):
        Query and key channels a head in the attention blocks.
    downsample_attention_key_size (`int`, *optional*, defaults to 16):
        Query and key channels a head in the attention between stages 3 and 4.
    attention_value_ratio (`int`, *optional*, defaults to 4):
        Value channels a head, as a multiple of its key channels.
    hidden_act (`str`, *optional*, defaults to `"gelu"`):
        Activation in the stem, the feed-forward parts and before the attention's output projection.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Probability of dropping the last block's residual branches in training; it grows linearly from 0 at the first.
    layer_scale_init_value (`float`, *optional*, defaults to 1e-5):
        Initial value of the learned per-channel scales of the residual branches.
    batch_norm_eps (`float`, *optional*, defaults to 1e-5):
        Epsilon of the batch normalisations.
    """

    _auto_class = "AutoConfig"
    model_type = "efficientformerv2"

    num_channels: int = 3
    image_size: int = 512
    hidden_sizes: list[int] | tuple[int, ...] = (32, 48, 120, 224)
    depths: list[int] | tuple[int, ...] = (3, 3, 9, 6)
    num_attention_blocks: int = 2
    mlp_expansion_ratios: int | float | list | tuple = (4, 4, (4, 4, 3, 3, 3, 3, 4, 4, 4), (4, 4, 3, 3, 4, 4))
    num_attention_heads: int = 8
    attention_key_size: int = 32
    downsample_attention_key_size: int = 16
    attention_value_ratio: int = 4
    hidden_act: str = "gelu"
    drop_path_rate: float | int = 0.0
    layer_scale_init_value: float | int = 1e-5
    batch_norm_eps: float | int = 1e-5
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.hidden_sizes = list(self.hidden_sizes)
        self.depths = list(self.depths)
        self.mlp_expansion_ratios = _expand_ratios(self.mlp_expansion_ratios, self.depths)
        self.stage_names = ["stem", *(f"stage{i}" for i in range(1, len(self.depths) + 1))]
        self.set_output_features_output_indices(
            out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
        )
        super().__post_init__(**kwargs)

    @property
    def num_stages(self) -> int:
        """Number of stages, against which transformers resolves negative indices of hidden states."""
        return len(self.depths)

    def validate_architecture(self):
        """Check the fields against each other; every message names the field, its value and the remedy."""
        if len(self.depths) != 4 or len(self.hidden_sizes) != 4:
            raise ValueError(
                f"depths={self.depths} and hidden_sizes={self.hidden_sizes} must have four entries each, "
                "one a stage: EfficientFormerV2 has four stages."
            )
        if any(depth < 1 for depth in self.depths):
            raise ValueError(f"depths={self.depths}: every stage needs at least one block; use depths of 1 or more.")
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes={self.hidden_sizes}: use channel counts of 1 or more.")
        if self.hidden_sizes[0] % 2:
            raise ValueError(
                f"hidden_sizes[0]={self.hidden_sizes[0]} does not divide by 2, and the stem's first convolution has "
                "half of it: use an even number."
            )
        if not 0 <= self.num_attention_blocks <= min(self.depths[2:]):
            raise ValueError(
                f"num_attention_blocks={self.num_attention_blocks} must lie between 0 and the smaller of the last two "
                f"depths={self.depths}: use a value from 0 to {min(self.depths[2:])}."
            )
        if len(self.mlp_expansion_ratios) != 4:
            raise ValueError(
                f"mlp_expansion_ratios={self.mlp_expansion_ratios} must have an entry for each of the four stages, or "
                "be one number for all."
            )
        for stage, (ratios, depth) in enumerate(zip(self.mlp_expansion_ratios, self.depths), start=1):
            if (
                not isinstance(ratios, list)
                or len(ratios) != depth
                or not all(isinstance(ratio, int | float) and ratio > 0 for ratio in ratios)
            ):
                raise ValueError(
                    f"mlp_expansion_ratios={ratios} of stage {stage} does not fit its depths entry {depth}: "
                    f"give {depth} positive numbers, or one number for the whole stage."
                )
        if self.image_size < SIZE_DIVISOR or self.image_size % SIZE_DIVISOR:
            raise ValueError(
                f"image_size={self.image_size} does not divide by {SIZE_DIVISOR}: use a multiple of {SIZE_DIVISOR}, "
                "for instance 224 or 512. Inputs of any other size work all the same."
            )
        _check_at_least_one(
            self,
            "num_channels",
            "num_attention_heads",
            "attention_key_size",
            "downsample_attention_key_size",
            "attention_value_ratio",
        )
        _check_probability(self, "drop_path_rate")
        super().validate_architecture()


@auto_docstring(
    custom_intro="Configuration of a [`CGRSegForSemanticSegmentation`]; the defaults are those of CGRSeg-T."
)
@strict
class CGRSegConfig(PreTrainedConfig):
    r"""
    backbone_config (`PreTrainedConfig` or `dict`, *optional*):
        Configuration of the backbone. By default EfficientFormerV2-S1; any configuration that `AutoBackbone` knows
        will do, as long as three of its feature maps have strides 8, 16 and 32. Where it names other than three
        output features, its last three stages are taken.
    decoder_hidden_size (`int`, *optional*, defaults to 128):
        Channels of the reconstructed features, of the prototype and of the classifier's input.
    strip_kernel_size (`int`, *optional*, defaults to 11):
        Length of the strip convolutions in the rectangular self-calibration attention, odd.
    square_kernel_size (`int`, *optional*, defaults to 3):
        Side of the depthwise convolution that the attention weighs, odd.
    num_pyramid_blocks (`int`, *optional*, defaults to 5):
        Rectangular self-calibration modules in the pyramid context. The paper's CGRSeg-B has 5, the configuration
        released with its code 6.
    mlp_ratio (`float`, *optional*, defaults to 2):
        Expansion of the MLP in each rectangular self-calibration module.
    hidden_act (`str`, *optional*, defaults to `"gelu"`):
        Activation of that MLP.
    layer_scale_init_value (`float`, *optional*, defaults to 1e-6):
        Initial value of the learned per-channel scale of each rectangular self-calibration module.
    batch_norm_eps (`float`, *optional*, defaults to 1e-5):
        Epsilon of the decoder's batch normalisations.
    layer_norm_eps (`float`, *optional*, defaults to 1e-5):
        Epsilon of the layer normalisation in the dynamic prototype's gate.
    classifier_dropout_prob (`float`, *optional*, defaults to 0.1):
        Probability with which a whole channel is dropped before the classifier in training.
    classifier_initializer_range (`float`, *optional*, defaults to 0.01):
        Standard deviation of the classifier's initial weights.
    use_rcm_in_pyramid_context (`bool`, *optional*, defaults to `True`):
        Whether rectangular self-calibration modules process the pyramid context (ablation).
    use_rcm_in_reconstruction (`bool`, *optional*, defaults to `True`):
        Whether one processes each scale in the spatial feature reconstruction (ablation).
    use_dynamic_prototype_head (`bool`, *optional*, defaults to `True`):
        Whether the dynamic prototype guides the classifier (ablation). Without it the coarse prediction is the
        prediction.
    freeze_backbone_batch_norm (`bool`, *optional*, defaults to `False`):
        Keep the running statistics of the backbone's batch normalisations as they are in training. Only for
        fine-tuning: from scratch the statistics must be learned.
    semantic_loss_ignore_index (`int`, *optional*, defaults to 255):
        Label of the pixels that count neither in the loss nor in the metric.
    loss_normalization (`str`, *optional*, defaults to `"valid"`):
        What the summed pixel loss is divided by: `"valid"`, the number of pixels that are not ignored, or `"all"`,
        the number of all pixels, as the reference code does (mmsegmentation 0.27).

    Example:

    ```python
    >>> from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation

    >>> configuration = CGRSegConfig.from_preset("t", num_labels=11)
    >>> model = CGRSegForSemanticSegmentation(configuration)
    ```"""

    _auto_class = "AutoConfig"
    model_type = "cgrseg"
    sub_configs = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference = ["image_sizes"]

    backbone_config: dict | PreTrainedConfig | None = None
    decoder_hidden_size: int = 128
    strip_kernel_size: int = 11
    square_kernel_size: int = 3
    num_pyramid_blocks: int = 5
    mlp_ratio: float | int = 2
    hidden_act: str = "gelu"
    layer_scale_init_value: float | int = 1e-6
    batch_norm_eps: float | int = 1e-5
    layer_norm_eps: float | int = 1e-5
    classifier_dropout_prob: float | int = 0.1
    classifier_initializer_range: float | int = 0.01
    use_rcm_in_pyramid_context: bool = True
    use_rcm_in_reconstruction: bool = True
    use_dynamic_prototype_head: bool = True
    freeze_backbone_batch_norm: bool = False
    semantic_loss_ignore_index: int = 255
    loss_normalization: Literal["valid", "all"] = "valid"

    def __post_init__(self, **kwargs):
        self.backbone_config = _resolve_backbone_config(self.backbone_config)
        # Saving a model registers its own class alone; the folder should load through each of these.
        kwargs.setdefault(
            "auto_map",
            {
                "AutoConfig": "configuration_cgrseg.CGRSegConfig",
                "AutoModel": "modeling_cgrseg.CGRSegModel",
                "AutoModelForSemanticSegmentation": "modeling_cgrseg.CGRSegForSemanticSegmentation",
            },
        )
        super().__post_init__(**kwargs)
        if self.label2id is None:
            self.label2id = {name: index for index, name in self.id2label.items()}

    def validate_architecture(self):
        """Check the fields against each other; every message names the field, its value and the remedy."""
        for name in ("strip_kernel_size", "square_kernel_size"):
            value = getattr(self, name)
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name}={value} must be odd and positive: use {max(value, 2) // 2 * 2 + 1}.")
        _check_at_least_one(self, "decoder_hidden_size", "num_pyramid_blocks")
        if not self.mlp_ratio > 0:
            raise ValueError(f"mlp_ratio={self.mlp_ratio} must be positive: the paper's value is 2.")
        _check_probability(self, "classifier_dropout_prob")
        if 0 <= self.semantic_loss_ignore_index < self.num_labels:
            raise ValueError(
                f"semantic_loss_ignore_index={self.semantic_loss_ignore_index} is also the number of one of the "
                f"num_labels={self.num_labels} classes, which would never be trained: use a label that is no class, "
                "for instance -100."
            )
        super().validate_architecture()

    @classmethod
    def from_preset(cls, preset: str, **overrides) -> "CGRSegConfig":
        """
        Build the configuration of one of the paper's models.

        Args:
            preset (`str`):
                `"t"`, `"b"` or `"l"` for the paper's CGRSeg-T, -B and -L, or `"xs"` for a smaller one on
                EfficientFormerV2-S0 that follows the same design.
            **overrides:
                Fields to set otherwise. A `backbone_config` dictionary changes single fields of the preset's backbone;
                one that names another `model_type`, or a configuration, replaces it. Unless `num_labels` or `id2label`
                says otherwise there are 150 classes, as in ADE20K.

        Returns:
            `CGRSegConfig`: the configuration.

        Raises:
            ValueError: If the preset or the name of an override is unknown.

        Example:

        ```python
        >>> CGRSegConfig.from_preset("b", num_labels=19, num_pyramid_blocks=6, backbone_config={"drop_path_rate": 0.0})
        ```"""
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset={preset!r}: use one of {', '.join(map(repr, PRESETS))}.")
        check_override_names(cls, overrides)
        settings = copy.deepcopy(PRESETS[preset])
        backbone = overrides.pop("backbone_config", None) or {}
        if isinstance(backbone, dict) and backbone.get("model_type") in (None, EfficientFormerV2Config.model_type):
            check_override_names(EfficientFormerV2Config, backbone)
            backbone = {**settings["backbone_config"], **backbone}
        if not {"num_labels", "id2label"} & overrides.keys():
            settings["num_labels"] = 150
        return cls(**{**settings, **overrides, "backbone_config": backbone})


def _expand_ratios(ratios: Any, depths: list[int]) -> list[list]:
    """One list of ratios a stage, from one number for all or a number or a list for each stage; checked later."""
    if isinstance(ratios, int | float):
        ratios = [ratios] * len(depths)
    ratios = [list(ratio) if isinstance(ratio, tuple) else ratio for ratio in ratios]
    return [[ratio] * depth if isinstance(ratio, int | float) else ratio for ratio, depth in zip(ratios, depths)]


def _resolve_backbone_config(backbone_config: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """A configuration of its own whose output features are three, for strides 8, 16 and 32."""
    if backbone_config is None:
        backbone_config = EfficientFormerV2Config()
    elif isinstance(backbone_config, dict):
        settings = dict(backbone_config)
        model_type = settings.pop("model_type", EfficientFormerV2Config.model_type)
        # Not looked up in CONFIG_MAPPING: as remote code this class is in no registry.
        if model_type == EfficientFormerV2Config.model_type:
            backbone_config = EfficientFormerV2Config(**settings)
        elif model_type in CONFIG_MAPPING:
            backbone_config = CONFIG_MAPPING[model_type](**settings)
        else:
            close = difflib.get_close_matches(model_type, CONFIG_MAPPING.keys(), n=1)
            raise ValueError(
                f"backbone_config names the unknown model_type={model_type!r}: "
                f"{f'did you mean {close[0]!r}? ' if close else ''}Use one that AutoBackbone knows."
            )
    else:
        backbone_config = copy.deepcopy(backbone_config)
    for name in ("hidden_sizes", "depths"):  # as tuples, their own defaults, ConvNeXt's backbones cannot use them
        if isinstance(getattr(backbone_config, name, None), tuple):
            setattr(backbone_config, name, list(getattr(backbone_config, name)))
    out_indices = getattr(backbone_config, "out_indices", None)
    if out_indices is None:
        raise ValueError(
            f"backbone_config is a {type(backbone_config).__name__}, which has no out_indices: use the configuration "
            "of a model that AutoBackbone knows."
        )
    if len(out_indices) != 3:
        stage_names = getattr(backbone_config, "stage_names", None)
        last_three = [-3, -2, -1] if stage_names is None else list(range(len(stage_names) - 3, len(stage_names)))
        backbone_config.out_indices = last_three
    return backbone_config


def _check_at_least_one(config: PreTrainedConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} is too small: use 1 or more.")


def _check_probability(config: PreTrainedConfig, name: str) -> None:
    if not 0 <= getattr(config, name) < 1:
        raise ValueError(f"{name}={getattr(config, name)} is no probability: use a value from 0 up to, not with, 1.")


def check_override_names(config_class: type[PreTrainedConfig], overrides: dict) -> None:
    """Refuse names that are no field of the class: PreTrainedConfig would take them as new attributes."""
    known = {field.name for field in fields(config_class)}
    known |= {"num_labels", "model_type", "out_features", "out_indices", "output_attentions", "attn_implementation"}
    for name in sorted(overrides.keys() - known):
        if config_class.model_type == CGRSegConfig.model_type and name in EfficientFormerV2Config.__dataclass_fields__:
            hint = f"it is a field of the backbone: pass backbone_config={{{name!r}: {overrides[name]!r}}}."
        else:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(sorted(known))}."
        raise ValueError(f"{config_class.__name__} has no field {name}={overrides[name]!r}; {hint}")


# The paper's sizes, and "xs" on the smallest backbone of EfficientFormerV2.
PRESETS: dict[str, dict[str, Any]] = {
    "xs": {
        "backbone_config": {
            "hidden_sizes": [32, 48, 96, 176],
            "depths": [2, 2, 6, 4],
            "num_attention_blocks": 2,
            "mlp_expansion_ratios": [4, 4, [4, 3, 3, 3, 4, 4], [4, 3, 3, 4]],
        },
    },
    "t": {
        "backbone_config": {
            "hidden_sizes": [32, 48, 120, 224],
            "depths": [3, 3, 9, 6],
            "num_attention_blocks": 2,
            "mlp_expansion_ratios": [4, 4, [4, 4, 3, 3, 3, 3, 4, 4, 4], [4, 4, 3, 3, 4, 4]],
        },
    },
    "b": {
        "backbone_config": {
            "hidden_sizes": [32, 64, 144, 288],
            "depths": [4, 4, 12, 8],
            "num_attention_blocks": 4,
            "mlp_expansion_ratios": [
                4,
                4,
                [4, 4, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4],
                [4, 4, 3, 3, 3, 3, 4, 4],
            ],
            "drop_path_rate": 0.02,
        },
        "decoder_hidden_size": 256,
    },
    "l": {
        "backbone_config": {
            "hidden_sizes": [40, 80, 192, 384],
            "depths": [5, 5, 15, 10],
            "num_attention_blocks": 6,
            "mlp_expansion_ratios": [
                4,
                4,
                [4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4],
                [4, 4, 4, 3, 3, 3, 3, 4, 4, 4],
            ],
            "drop_path_rate": 0.1,
        },
        "decoder_hidden_size": 256,
        "strip_kernel_size": 9,
    },
}

__all__ = ["CGRSegConfig", "EfficientFormerV2Config"]
