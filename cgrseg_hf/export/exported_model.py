# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""An exported folder as a model of transformers, for pipelines."""

import os

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from ..engines.engine import Engine
from ..engines.exported_engine import open_export
from ..model.geometry_cgrseg import find_image_sizes
from ..model.modeling_cgrseg import CGRSegSemanticSegmenterOutput


class ExportedModel(PreTrainedModel):
    """
    An exported folder in the place of the model that it was made from.

    It computes logits only: it cannot be trained, saved or moved.

    Args:
        config (`PreTrainedConfig`): The model's configuration.
        engine ([`Engine`]): What computes the network.

    Example:

    ```python
    >>> from cgrseg_hf.export import ExportedModel
    >>> from transformers import AutoImageProcessor, pipeline

    >>> model = ExportedModel.from_pretrained("exported")
    >>> image_processor = AutoImageProcessor.from_pretrained("exported")
    >>> segment = pipeline("image-segmentation", model=model, image_processor=image_processor)
    ```"""

    config_class = PreTrainedConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: PreTrainedConfig, engine: Engine):
        super().__init__(config)
        self.engine = engine
        self.training = False

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike,
        *,
        device: str | torch.device | None = None,
        num_threads: int | None = None,
        trust_remote_code: bool = False,
    ) -> "ExportedModel":
        """
        Load an exported folder.

        Args:
            folder (`str` or `os.PathLike`):
                The folder. Its export takes pixel values and returns logits.
            device (`str` or `torch.device`, *optional*), num_threads (`int`, *optional*),
            trust_remote_code (`bool`, *optional*, defaults to `False`):
                See [`make_engine`].

        Raises:
            ValueError: If the folder is no such export.
            ImportError: If the engine's package is not installed.
        """
        engine = open_export(folder, device=device, num_threads=num_threads, trust_remote_code=trust_remote_code)
        return cls(engine.config, engine)

    @property
    def device(self) -> torch.device:
        """Where the engine runs."""
        return self.engine.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the pixels and logits."""
        return torch.float32

    def to(self, *args, **kwargs) -> "ExportedModel":
        """Stay where it is, if that is what is asked for; pipelines ask."""
        moved = torch.empty(0, device=self.device).to(*args, **kwargs)
        if moved.device.type != self.device.type or moved.dtype != torch.float32:
            raise ValueError(
                f"An exported model stays on {self.device} with pixels in float32: load it with "
                "from_pretrained(folder, device=…)."
            )
        return self

    def train(self, mode: bool = True) -> "ExportedModel":
        """
        Stay in evaluation mode.

        Raises:
            ValueError: If training is asked for.
        """
        if mode:
            raise ValueError("An exported model cannot be trained: train the model that it was made from.")
        return self

    def save_pretrained(self, *args, **kwargs) -> None:
        """
        Refuse to save.

        Raises:
            ValueError: Always.
        """
        raise ValueError("An exported model is its folder: copy that.")

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.LongTensor | None = None
    ) -> CGRSegSemanticSegmenterOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels.
            image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*):
                Height and width of each image without its padding, from the image processor; handed on to
                `post_process_semantic_segmentation`. By default those of `pixel_values`.

        Returns:
            `CGRSegSemanticSegmenterOutput`: with `logits` of shape
            `(batch, num_labels, ceil(height / 8), ceil(width / 8))`.
        """
        return CGRSegSemanticSegmenterOutput(
            logits=self.engine(pixel_values),
            image_sizes=find_image_sizes(pixel_values) if image_sizes is None else image_sizes,
        )


# The image segmentation pipeline logs an error for classes whose names it does not find here.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["cgrseg_exported"] = ExportedModel.__name__
