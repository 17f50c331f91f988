# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page's own pieces of HTML. Names come from files and models of strangers: all are escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

from .models import DemoModel
from .session import ClassArea, PixelAnswer

# Names that are listed before "and so many more".
_LISTED_CLASSES = 12

HEADER = """
<header class="cgrseg-header">
  <h1>What is where in a photo?</h1>
  <p>CGRSeg gives every pixel a class. Drop a photo, take one, or pick an example; then click the picture to ask about a
  pixel. Photos stay on the computer that runs this page, and are deleted when it stops.</p>
</header>
"""


def format_share(share: float) -> str:
    """A share from 0 to 1 in percent, never 0 or 100 for what is only close to it."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


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
    trained = f"Trained on {', '.join(model.data_sets)}. " if model.data_sets else ""
    classes = (
        f"{trained}It knows {len(names)} {'class' if len(names) == 1 else 'classes'} ({listed}) and gives every pixel "
        "one of them, whatever the photo shows."
    )
    summary = f"<p>{escape(model.summary)}</p>" if model.summary else ""
    return (
        f'<div class="cgrseg-model"><p>{escape(classes)}</p>'
        f"{f'<details><summary>What its card says</summary>{summary}</details>' if summary else ''}</div>"
    )


def class_table(areas: Sequence[ClassArea]) -> str:
    """Colour, name and share of each class, the largest first."""
    rows = "".join(
        f'<tr><td><span class="cgrseg-swatch" style="background:rgb{one.color}"></span></td>'
        f'<th scope="row">{escape(one.name)}</th>'
        f'<td class="cgrseg-share">{format_share(one.share)}</td>'
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
        runner_up = f" Next: {escape(name)}, {format_share(probability)}."
    return (
        f'<p class="cgrseg-message cgrseg-note" role="status"><span class="cgrseg-swatch" '
        f'style="background:rgb{color}"></span> Pixel ({answer.x}, {answer.y}): '
        f"<strong>{escape(answer.name)}</strong>, {format_share(answer.probability)}.{runner_up}</p>"
    )


def attributions(sources: Sequence[dict[str, Any]]) -> str:
    """Where the example photos are from, and their licence."""
    entries = "; ".join(
        f'<a href="{escape(one["source"])}" target="_blank" rel="noopener noreferrer">{escape(one["title"])}</a>'
        for one in sources
    )
    license_url, license_name = escape(sources[0]["license_url"]), escape(sources[0]["license"])
    return (
        f'<p class="cgrseg-sources">Photos from Flickr by way of COCO, '
        f'<a href="{license_url}" target="_blank" rel="noopener noreferrer">{license_name}</a>, made smaller: '
        f"{entries}.</p>"
    )
