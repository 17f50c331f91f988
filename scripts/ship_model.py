# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Put a trained model into the package: weights in half precision, and a card from what was measured.

    python scripts/ship_model.py runs/camvid --data DIR --label-ids void-first --facts model_cards/cgrseg-t-camvid.yaml

The half-precision weights are what is evaluated, in float32 arithmetic: the scores in the card are of the files that
are shipped. Without the training's folder, the model that is in the package already gets its card anew; the training's
curve is kept beside the facts for that, and so is the evaluation, without the names of images.
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
from write_cards import make_shipped_card

import cgrseg_hf  # noqa: F401  (makes CGRSeg known to transformers)
from cgrseg_hf.data import load_data
from cgrseg_hf.evaluation import evaluate_model, per_class_table, without_sources, write_report
from cgrseg_hf.hub.cards import read_curve, read_facts, read_log
from cgrseg_hf.pretrained import DEFAULT_MODEL

_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def main() -> None:
    """Write the model's folder, evaluate it, and write its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the training")
    parser.add_argument("--data", required=True, help="data set with a validation split")
    parser.add_argument("--dataset", default="camvid", help="whose classes these are (default: camvid)")
    parser.add_argument("--label-ids", default="auto", help="convention of the ids")
    parser.add_argument("--facts", type=Path, required=True, help="YAML of what the card says in words")
    parser.add_argument("--output", type=Path, default=DEFAULT_MODEL, help="the model's folder")
    parser.add_argument("--report", type=Path, default=Path("runs/shipped-report"), help="folder of the evaluation")
    arguments = parser.parse_args()

    log = arguments.facts.with_suffix(".log.jsonl")
    if arguments.run is not None:
        write_model(arguments.run / "best", arguments.output)
        write_curve(arguments.run / "log.jsonl", log)
    data = load_data(arguments.data, "validation", arguments.dataset, label_ids=arguments.label_ids)
    model = AutoModelForSemanticSegmentation.from_pretrained(arguments.output)
    image_processor = AutoImageProcessor.from_pretrained(arguments.output)
    result = evaluate_model(model, image_processor, data, num_workers=1, keep_worst=10)
    print(per_class_table(result))
    name = read_facts(arguments.facts).name
    path = write_report(result, arguments.report, model=name, model_folder=arguments.output)
    report = without_sources(json.loads(path.read_text(encoding="utf-8")))
    text = json.dumps(report, indent=1, ensure_ascii=False)
    arguments.facts.with_suffix(".report.json").write_text(text + "\n", encoding="utf-8")
    card = make_shipped_card(arguments.facts, arguments.output)
    for file in (arguments.output / "README.md", arguments.facts.with_suffix(".md")):
        file.write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.output.iterdir()) / 1e6
    print(f"{arguments.output}: {size:.1f} MB, with its card {arguments.facts.with_suffix('.md')}.")


def write_model(source: Path, target: Path) -> None:
    """Copy a model with weights in half precision, which are read back as float32 unless told otherwise."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _FILES[:2]:
        settings = json.loads((source / name).read_text())
        settings.pop("auto_map", None)  # the package itself has the code
        (target / name).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    weights = load_file(source / _FILES[2])
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    if infinite := [name for name, tensor in halves.items() if not tensor.float().isfinite().all()]:
        raise ValueError(
            f"Half precision cannot hold {infinite[0]}: its largest value is {weights[infinite[0]].max()}."
        )
    save_file(halves, target / _FILES[2], metadata={"format": "pt"})


def write_curve(source: Path, target: Path) -> None:
    """Copy a training's evaluations, and the loss at each, from its log."""
    curve = read_curve(read_log(source))
    target.write_text("".join(json.dumps(entry) + "\n" for entry in curve), encoding="utf-8")


if __name__ == "__main__":
    main()
