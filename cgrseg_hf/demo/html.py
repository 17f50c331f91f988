# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page's own pieces of HTML. Names come from files and models of strangers: all are escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from ..visualization.legends import format_share
from .examples import Example
from .models import DemoModel
from .session import ClassArea, PixelAnswer

# Names that are listed before "and so many more".
_LISTED_CLASSES = 12

# Width and height in pixels of the example photos' small pictures.
_THUMBNAIL = (240, 160)

HEADER = """
<header class="cgrseg-header">
  <h1>What is where in a photo?</h1>
  <p>CGRSeg gives every pixel of a photo a class. Photos stay on the computer that runs this page, and are deleted
  after about an hour.</p>
</header>
"""

START = """
<div class="cgrseg-message cgrseg-note" role="status"><p><strong>Choose a photo to begin.</strong></p><ol>
  <li>Drop a photo, take one with the camera, or pick an example.</li>
  <li>Click the picture to see a pixel's class, and how sure the model is of it.</li>
  <li>Look at one class at a time in the heat map, or download the label map.</li>
</ol></div>
"""

# Tells the page which example was clicked; buttons take the keyboard as well.
EXAMPLES_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("click", { index: Number(button.dataset.index) });
});
"""


def message(text: str, is_error: bool = False) -> str:
    """A sentence that screen readers say as soon as it appears."""
    kind, role = ("error", "alert") if is_error else ("note", "status")
    return f'<p class="cgrseg-message cgrseg-{kind}" role="{role}">{escape(text)}</p>'


def model_description(model: DemoModel) -> str:
    """What a model was trained on and which classes it knows."""
    names = list(model.segmenter.id2label.values())
    listed = ", ".join(names[:_LISTED_CLASSES])
    if len(names) > _LISTED_CLASSES:
        listed += f" and {len(names) - _LISTED_CLASSES} more"
    trained = f"Trained on {', '.join(model.card.data_sets)}. " if model.card.data_sets else ""
    classes = (
        f"{trained}It knows {len(names)} {'class' if len(names) == 1 else 'classes'} ({listed}) and gives every pixel "
        "one of them, whatever the photo shows."
    )
    notice = f" <strong>{escape(model.card.notice)}</strong>" if model.card.notice else ""
    card = ""
    if model.card.summary:
        card = f"<details><summary>What its card says</summary><p>{escape(model.card.summary)}</p></details>"
    return f'<div class="cgrseg-model"><p>{escape(classes)}{notice}</p>{card}</div>'


def class_table(areas: Sequence[ClassArea]) -> str:
    """Colour, name and share of each class, the largest first."""
    rows = "".join(
        f'<tr><td><span class="cgrseg-swatch" style="background:rgb{one.color}"></span></td>'
        f'<th scope="row">{escape(one.name)}</th>'
        f'<td class="cgrseg-share">{escape(format_share(one.share))}</td>'
        f'<td class="cgrseg-bar" aria-hidden="true"><span style="width:{100 * one.share:.2f}%;'
        f'background:rgb{one.color}"></span></td></tr>'
        for one in areas
    )
    return (
        '<table class="cgrseg-classes"><caption>Classes in the photo</caption><thead><tr><th scope="col">Colour</th>'
        '<th scope="col">Class</th><th scope="col">Share</th><td></td></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def pixel_answer(answer: PixelAnswer, color: tuple[int, int, int]) -> str:
    """A pixel's class and the next one, with probabilities."""
    runner_up = ""
    if answer.runner_up is not None:
        name, probability = answer.runner_up
        runner_up = f" Next: {escape(name)}, {escape(format_share(probability))}."
    return (
        f'<p class="cgrseg-message cgrseg-note" role="status"><span class="cgrseg-swatch" '
        f'style="background:rgb{color}"></span> Pixel ({answer.x}, {answer.y}): '
        f"<strong>{escape(answer.name)}</strong>, {escape(format_share(answer.probability))}.{runner_up}</p>"
    )


def example_gallery(examples: Sequence[Example]) -> str:
    """The example photos as buttons, each with its source below; their licence below all."""
    figures = "".join(
        f'<figure><button type="button" data-index="{index}" aria-label="Example photo: {escape(one.title)}">'
        f'<img src="{_thumbnail(one.path)}" alt=""></button>'
        f"<figcaption>{_link(one.source, one.title)}</figcaption></figure>"
        for index, one in enumerate(examples)
    )
    licenses = dict.fromkeys(_link(one.license_url, one.license) for one in examples)
    return (
        f'<section class="cgrseg-examples" aria-label="Example photos"><div class="cgrseg-gallery">{figures}</div>'
        "<p>The titles lead to the photos on Flickr, their source by way of COCO. "
        f"{', '.join(licenses)}; made smaller.</p></section>"
    )


def _thumbnail(path: Path) -> str:
    with Image.open(path) as photo:
        small = ImageOps.fit(photo.convert("RGB"), _THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'
