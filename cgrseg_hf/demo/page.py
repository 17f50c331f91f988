# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page itself, in Gradio: what is where, and what happens when. Imported by the command alone."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from transformers.utils import logging

from ..visualization.legends import format_share
from . import html
from .errors import DemoError
from .examples import PHOTOS, load_examples
from .models import DemoModel, ModelShelf
from .session import PhotoDesk, SegmentedPhoto

logger = logging.get_logger(__name__)

STYLE = Path(__file__).with_name("page.css")

# Where the columns lie one below the other, the answer would appear out of sight.
_SCROLL_ON_PHONES = """() => {
    if (innerWidth < 700 && document.getElementById("overlay"))
        document.getElementById("status").scrollIntoView({ behavior: "smooth" });
}"""
_FROM_HUB = "Another model of the Hub"
_WRITE_ID = "Write the id of a model, then use it."
# Visitors whose photos are remembered; with the next one, the first is asked to choose a photo again.
_SESSIONS = 100
# Seconds after which a visitor's photo is forgotten, and how often and after how long uploaded files are deleted.
_REMEMBERED = 3600
_DELETE_FILES = (600, _REMEMBERED)


def take_files_unopened(photo: gr.Image, folder: Path) -> None:
    """
    Let a picture's input give the path of the file that was uploaded to a folder, and take and fetch nothing else.

    Whoever opens the file looks at its header first, where Gradio would decode it, or fail without words. (A subclass
    would make Gradio write a file of its own beside this one.)
    """
    move = photo.async_move_resource_to_block_cache

    def check(path: str | Path | None) -> None:
        # What a browser sends may name any file of this computer, or an address.
        if path is None or not Path(path).resolve().is_relative_to(folder.resolve()):
            raise gr.Error("This photo was not uploaded here.", print_exception=False)

    def path_of(payload: Any) -> str | None:
        if payload is None:
            return None
        check(payload.path)
        return payload.path

    async def move_upload(path: str | Path | None) -> str | None:
        if not _is_example(path):
            check(path)
        return await move(path)

    photo.preprocess = path_of
    photo.async_move_resource_to_block_cache = move_upload


def _is_example(path: str | Path | None) -> bool:
    return path is not None and Path(path).resolve().parent == PHOTOS.resolve()


def make_theme() -> gr.themes.Base:
    """Colours and fonts; the fonts are those of the visitor's system, so that none is fetched."""
    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        # The theme's own light teal on white is too pale to read.
        color_accent="*primary_700",
        body_background_fill="*neutral_50",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_shadow="none",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_border_width="1px",
        block_shadow="none",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )


def in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Turn whatever a handler raises into a [`DemoError`]; what nobody foresaw goes to the log."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except DemoError:
            raise
        except Exception as error:
            logger.exception("The page could not do what it was asked for.")
            raise DemoError("Something went wrong here. Try again, perhaps with another photo.") from error

    return wrapped


def make_page(shelf: ModelShelf, desk: PhotoDesk, folder: Path, queue_size: int) -> gr.Blocks:
    """
    The page, ready to be served.

    Args:
        shelf ([`ModelShelf`]): The models to choose from.
        desk ([`PhotoDesk`]): What segments the photos.
        folder (`Path`): Where Gradio puts uploads, and the page files to download; the server deletes it at the end.
        queue_size (`int`): Visitors that may wait; others are told to come again.
    """
    examples = load_examples()
    with gr.Blocks(
        title="CGRSeg: what is where in a photo?", analytics_enabled=False, delete_cache=_DELETE_FILES
    ) as page:
        plain = {"apply_default_css": False}  # page.css has their styles
        state = gr.State(time_to_live=_REMEMBERED)
        gr.HTML(html.HEADER, **plain)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = gr.Image(
                    label="Photo", sources=["upload", "webcam", "clipboard"], height=280, buttons=[], elem_id="photo"
                )
                take_files_unopened(photo, folder)
                gallery = gr.HTML(
                    html.example_gallery(examples), js_on_load=html.EXAMPLES_SCRIPT, elem_id="examples", **plain
                )
                choices = [*shelf.choices, *([_FROM_HUB] if shelf.allow_any else [])]
                choice = gr.Dropdown(choices, value=choices[0], label="Model", elem_id="model", filterable=False)
                with gr.Column(visible=False) as hub_part:
                    hub_id = gr.Textbox(
                        label="Id on the Hugging Face Hub",
                        placeholder="owner/name",
                        info="It is fetched to this computer: its configuration and safetensors weights, never code.",
                        max_length=200,
                        elem_id="hub-id",
                    )
                    use = gr.Button("Use this model", size="md", elem_id="use-hub-id")
                description = gr.HTML(html.model_description(shelf.get()), elem_id="description", **plain)
            with gr.Column(scale=3, min_width=300):
                status = gr.HTML(html.START, elem_id="status", **plain)
                with gr.Column(visible=False) as results:
                    with gr.Tabs():
                        with gr.Tab("Classes"):
                            overlay = gr.Image(
                                label="Classes over the photo",
                                alt_text="The photo under its classes' colours; the classes are listed below",
                                format="png",
                                interactive=False,
                                buttons=["download", "fullscreen"],
                                elem_id="overlay",
                            )
                            opacity = gr.Slider(
                                0,
                                100,
                                value=55,
                                step=5,
                                label="Opacity of the colours in %",
                                buttons=[],
                                elem_id="opacity",
                            )
                            answer = gr.HTML(elem_id="answer", **plain)
                            with gr.Row():
                                x = gr.Number(label="x, from the left", precision=0, min_width=90, elem_id="x")
                                y = gr.Number(label="y, from the top", precision=0, min_width=90, elem_id="y")
                                ask = gr.Button("Ask about this pixel", min_width=140, size="md", elem_id="ask")
                        with gr.Tab("Heat map"):
                            heat_class = gr.Dropdown([], label="Class", elem_id="heat-class")
                            heat_map = gr.Image(
                                label="Probability of the class",
                                alt_text="The photo in grey, coloured by the probability of the chosen class",
                                format="png",
                                interactive=False,
                                buttons=["download", "fullscreen"],
                                elem_id="heat-map",
                            )
                            heat_error = gr.HTML(**plain)
                    table = gr.HTML(elem_id="classes", **plain)
                    download = gr.DownloadButton(
                        "Download the label map (PNG)", variant="primary", size="md", elem_id="download"
                    )

        shown = [status, results, state, overlay, answer, x, y, heat_class, heat_map, heat_error, table, download]

        def nothing(text: str) -> dict:
            return {
                status: text,
                results: gr.Column(visible=False),
                state: None,
                overlay: None,
                heat_map: None,
                table: "",
                download: gr.DownloadButton(value=None),
            }

        def lacks_id(name: str, repo_id: str) -> bool:
            return name == _FROM_HUB and not (repo_id or "").strip()

        def find_model(name: str, repo_id: str, seconds: float) -> DemoModel:
            if name == _FROM_HUB and shelf.allow_any:
                return shelf.get_from_hub(repo_id, seconds)
            return shelf.get(name)

        def pick_example(event: gr.EventData) -> Any:
            index = event._data.get("index")
            return str(examples[index].path) if index in range(len(examples)) else gr.skip()

        @in_words
        def show(path: str, name: str, repo_id: str, percent: float) -> dict:
            # A model that is being fetched must not hold the network's place: others would wait with this visitor.
            segmented = desk.segment(path, find_model(name, repo_id, seconds=0))
            height, width = segmented.size
            areas = segmented.areas
            named = ", ".join(f"{one.name} {format_share(one.share)}" for one in areas[:3])
            return {
                status: html.message(f"{Path(path).name}, {width} × {height} pixels. Most of it: {named}."),
                results: gr.Column(visible=True),
                state: segmented,
                overlay: segmented.draw_overlay(percent / 100),
                answer: html.message("Click the picture, or give a pixel's x and y, to see its class."),
                # Without bounds: Gradio would say of numbers beyond them what it is that they exceed, but not of which
                # field, and leave the answer of the last pixel on the page.
                x: gr.Number(value=None, label=f"x, 0 to {width - 1}"),
                y: gr.Number(value=None, label=f"y, 0 to {height - 1}"),
                heat_class: gr.Dropdown(
                    [(class_name, class_id) for class_id, class_name in segmented.segmentation.id2label.items()],
                    value=areas[0].class_id,
                ),
                heat_map: segmented.draw_heat_map(areas[0].class_id),
                heat_error: "",
                table: html.class_table(areas),
                download: gr.DownloadButton(value=segmented.save_label_map(folder)),
            }

        def segment(path: str | None, name: str, repo_id: str, percent: float) -> dict:
            if path is None:
                return nothing(html.START)
            if lacks_id(name, repo_id):
                return nothing(html.message(_WRITE_ID))
            try:
                return show(path, name, repo_id, percent)
            except DemoError as error:
                return nothing(html.message(str(error), is_error=True))

        def describe(name: str, repo_id: str) -> tuple[Any, str]:
            part = gr.Column(visible=name == _FROM_HUB)
            if lacks_id(name, repo_id):
                return part, html.message(_WRITE_ID)
            try:
                return part, html.model_description(in_words(find_model)(name, repo_id, desk.limits.seconds))
            except DemoError as error:
                return part, html.message(str(error), is_error=True)

        def redraw(segmented: SegmentedPhoto | None, percent: float, pixel_x: Any, pixel_y: Any) -> Any:
            if segmented is None:
                return gr.skip()
            height, width = segmented.size
            known = pixel_x is not None and pixel_y is not None and 0 <= pixel_x < width and 0 <= pixel_y < height
            return segmented.draw_overlay(percent / 100, (int(pixel_x), int(pixel_y)) if known else None)

        @in_words
        def answer_for(segmented: SegmentedPhoto | None, percent: float, pixel_x: Any, pixel_y: Any) -> dict:
            if segmented is None:
                raise DemoError("This photo was forgotten after some time: choose it again.")
            said = segmented.look_up(pixel_x, pixel_y)
            return {
                answer: html.pixel_answer(said, segmented.color_of(said.class_id)),
                overlay: segmented.draw_overlay(percent / 100, (said.x, said.y)),
                x: said.x,
                y: said.y,
            }

        def look_up(segmented: SegmentedPhoto | None, percent: float, pixel_x: Any, pixel_y: Any) -> dict:
            try:
                return answer_for(segmented, percent, pixel_x, pixel_y)
            except DemoError as error:
                return {answer: html.message(str(error), is_error=True)}

        def click(segmented: SegmentedPhoto | None, percent: float, event: gr.SelectData) -> dict:
            try:
                pixel = (None, None) if segmented is None else in_words(segmented.to_photo_pixel)(*event.index)
            except DemoError as error:
                return {answer: html.message(str(error), is_error=True)}
            return look_up(segmented, percent, *pixel)

        @in_words
        def draw_heat_map(segmented: SegmentedPhoto | None, class_id: int | None) -> Any:
            if segmented is None or class_id is None:
                raise DemoError("Choose a photo and a class.")
            return segmented.draw_heat_map(class_id)

        def heat(segmented: SegmentedPhoto | None, class_id: int | None) -> tuple[Any, str]:
            try:
                return draw_heat_map(segmented, class_id), ""
            except DemoError as error:
                return None, html.message(str(error), is_error=True)

        network = {"concurrency_id": "network", "concurrency_limit": desk.limits.num_threads}
        quick = {"show_progress": "hidden", "concurrency_id": "pictures", "concurrency_limit": 4}
        several = {"concurrency_id": "models", "concurrency_limit": 4}
        hidden = {"api_visibility": "private"}
        wanted = [photo, choice, hub_id, opacity]
        done = photo.change(segment, wanted, shown, show_progress_on=status, **network, **hidden)
        done.then(fn=None, js=_SCROLL_ON_PHONES, **hidden)
        gallery.click(pick_example, None, photo, show_progress="hidden", **hidden)
        described = [choice, hub_id]
        chosen = choice.input(describe, described, [hub_part, description], **several, **hidden)
        used = gr.on([use.click, hub_id.submit], describe, described, [hub_part, description], **several, **hidden)
        for event in (chosen, used):
            event.then(segment, wanted, shown, show_progress_on=status, **network, **hidden)
        opacity.change(redraw, [state, opacity, x, y], overlay, trigger_mode="always_last", **quick, **hidden)
        pixel = [answer, overlay, x, y]
        overlay.select(click, [state, opacity], pixel, trigger_mode="always_last", **quick, **hidden)
        gr.on([ask.click, x.submit, y.submit], look_up, [state, opacity, x, y], pixel, **quick, **hidden)
        heat_class.input(heat, [state, heat_class], [heat_map, heat_error], **quick, **hidden)
    page.state_session_capacity = _SESSIONS
    return page.queue(max_size=queue_size, api_open=False)
