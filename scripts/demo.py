# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune the smallest CGRSeg on a dozen photos with the Hugging Face Trainer, then segment one of them.

    bash scripts/demo.sh

The photos and their COCO-Stuff label maps lie in `tests/fixtures/photos`. Training starts from random weights and
learns this dozen by heart: it shows that everything works, not how well the model generalises.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from transformers import Trainer, TrainingArguments, pipeline, set_seed

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.visualization import draw_overlay

PHOTOS = Path(__file__).parents[1] / "tests" / "fixtures" / "photos"


def main() -> None:
    """Train, measure, save, load and segment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=330, help="training steps (default: 330)")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder for the results")
    arguments = parser.parse_args()

    set_seed(0)
    rows, id2label = load_photos()
    image_processor = CGRSegImageProcessor(size={"height": 256, "width": 320}, num_labels=len(id2label))
    examples = [
        {name: values[0] for name, values in batch.items()}
        for batch in (image_processor(row["image"], row["annotation"], return_tensors="pt") for row in rows)
    ]
    config = CGRSegConfig.from_preset(
        "xs",
        id2label=id2label,
        # Some hundred steps from random weights: residual branches that count from the first step on, and no dropout.
        layer_scale_init_value=0.5,
        backbone_config={"layer_scale_init_value": 0.5},
        classifier_dropout_prob=0.0,
    )
    trainer = Trainer(
        model=CGRSegForSemanticSegmentation(config),
        args=TrainingArguments(
            output_dir=str(arguments.output / "checkpoints"),
            max_steps=arguments.steps,
            per_device_train_batch_size=6,
            dataloader_pin_memory=torch.cuda.is_available(),
            learning_rate=3e-3,
            warmup_steps=20,
            lr_scheduler_type="cosine",
            logging_steps=30,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=examples,
    )
    trainer.train()
    model = trainer.model.eval()
    print(f"Mean IoU on the training photos, over the classes present: {mean_iou(model, image_processor, rows):.3f}")

    folder = arguments.output / "model"
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)

    photo = rows[0]["image"]
    segments = pipeline("image-segmentation", model=str(folder))(photo)
    label_map = np.full((photo.height, photo.width), 255)
    for segment in segments:
        label_map[np.asarray(segment["mask"]) > 0] = config.label2id[segment["label"]]
    overlay = arguments.output / "overlay.png"
    draw_overlay(photo, label_map, id2label).save(overlay)
    print(f"The model is in {folder}, the photo with its classes in {overlay}.")


def load_photos() -> tuple[list[dict], dict[int, str]]:
    """The photos with label maps of the classes that occur in them, numbered from 0, and the names of these classes."""
    names = json.loads((PHOTOS / "id2label.json").read_text())
    dataset = load_dataset("imagefolder", data_dir=str(PHOTOS), split="train")
    label_maps = [np.asarray(row["annotation"]) for row in dataset]
    present = np.unique(np.concatenate([label_map.ravel() for label_map in label_maps]))
    present = present[present != 255]
    new_ids = np.full(256, 255, dtype=np.uint8)
    new_ids[present] = np.arange(len(present))
    rows = [{"image": row["image"], "annotation": new_ids[label_map]} for row, label_map in zip(dataset, label_maps)]
    return rows, {index: names[str(class_id)] for index, class_id in enumerate(present)}


@torch.no_grad()
def mean_iou(model: CGRSegForSemanticSegmentation, image_processor: CGRSegImageProcessor, rows: list[dict]) -> float:
    """Mean intersection over union, at the photos' own size, of the classes that occur in their label maps."""
    num_labels = model.config.num_labels
    confusion = np.zeros((num_labels, num_labels), dtype=np.int64)
    for row in rows:
        inputs = image_processor(row["image"], return_tensors="pt").to(model.device)
        truth = row["annotation"]
        predicted = image_processor.post_process_semantic_segmentation(model(**inputs), [truth.shape])[0].cpu().numpy()
        valid = truth != 255
        pairs = truth[valid].astype(np.int64) * num_labels + predicted[valid]
        confusion += np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)
    correct, present = confusion.diagonal(), confusion.sum(axis=1) > 0
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - correct
    return float((correct[present] / union[present]).mean())


if __name__ == "__main__":
    main()
