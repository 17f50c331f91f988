# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The web page of `cgrseg demo`: a photo's classes, their shares and heat maps, on Gradio's own components."""

import html
import json
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .inference import Segmentation, Segmenter, UnreadableImageError
from .utils.optional import import_optional
from .visualization.legends import format_share

if TYPE_CHECKING:
    import gradio

EXAMPLES = Path(__file__).parent / "pretrained" / "photos"

# Longer side of the images on the page, in pixels.
_VIEW_SIDE = 1280
# Visitors whose photo is remembered, and for how many seconds. Files are kept for longer, as heat maps read the photo.
_SESSIONS = 100
_REMEMBERED = 3600
_FILES_KEPT = 2 * _REMEMBERED
# An upload may have this many bytes for each allowed pixel; JPEG and PNG files have fewer.
_BYTES_PER_PIXEL = 4

# Settings of the images with results, and of the table of classes.
_SHOWN = {"interactive": False, "show_label": False}
_TABLE = {"column_widths": ["15%", "55%", "30%"], "buttons": []}

_INTRODUCTION = """
# What is where in a photo?

Upload a photo or choose an example, then click the result to see a pixel's class. Photos stay on the computer that
serves this page and are deleted after about two hours. The card of each model says what it may be used for:
`cgrseg-t-camvid`, which comes with cgrseg_hf, is for street scenes and for research use only.
"""


@dataclass(frozen=True)
class View:
    """
    A segmented photo as the page shows it; the network does not run again.

    Args:
        segmentation ([`Segmentation`]): The classes, with logits.
        plain (`PIL.Image.Image`): The photo with the boundaries of the classes, reduced to the size of the page.
        covered (`PIL.Image.Image`): The same under the opaque colours of the classes.
    """

    segmentation: Segmentation
    plain: Image.Image
    covered: Image.Image

    @classmethod
    def from_photo(cls, segmenter: Segmenter, path: str | os.PathLike) -> "View":
        """Segment a photo."""
        segmentation = segmenter(path, return_logits=True)
        plain, covered = (segmentation.overlay(None, opacity, _VIEW_SIDE, legend=False) for opacity in (0, 1))
        return cls(segmentation, plain, covered)

    def draw_overlay(self, opacity: float) -> Image.Image:
        """Lay the colours of the classes over the photo, with an opacity from 0 to 1."""
        return Image.blend(self.plain, self.covered, opacity)

    def draw_heat_map(self, class_id: int) -> Image.Image:
        """Lay the probability of one class over the photo."""
        return self.segmentation.heat_map(class_id, max_side=_VIEW_SIDE)

    def find_pixel(self, x: int, y: int) -> tuple[int, int]:
        """Column and row in the photo of a pixel of the view."""
        step = -(-max(self.segmentation.size) // _VIEW_SIDE)
        return x * step, y * step

    def compute_scores(self, x: int, y: int) -> dict[str, float]:
        """Probability, 0 to 1, of each class by name in column `x` and row `y` of the photo."""
        probabilities = self.segmentation.probabilities_at(y, x)
        ascending = np.argsort(probabilities).tolist()  # of classes with the same name, the likeliest remains
        return {self.segmentation.id2label[class_id]: float(probabilities[class_id]) for class_id in ascending}

    def list_classes(self) -> dict[str, Any]:
        """Colour, name and share of each class, the largest first, as `gr.Dataframe` takes them."""
        classes = self.segmentation.to_dict()["classes"]
        colors = self.segmentation.colors
        return {
            "headers": ["", "Class", "Share"],
            "data": [["", one["name"], format_share(one["share"])] for one in classes],
            "metadata": {"styling": [[f"background-color: rgb{tuple(colors[one['id']])}", "", ""] for one in classes]},
        }


class PhotoDesk:
    """
    Answer what visitors do on the page, with errors that Gradio shows to them.

    Args:
        segmenters (`Mapping[str, Segmenter]`): The models by the name that visitors see.
        folder (`str` or `os.PathLike`): Folder for images and label maps: that of Gradio's own files.
        time_limit (`float`): Seconds that a visitor waits for a photo, once it is its turn.
        concurrency (`int`): Photos that are segmented at a time.
    """

    def __init__(
        self, segmenters: Mapping[str, Segmenter], folder: str | os.PathLike, time_limit: float, concurrency: int
    ):
        self.segmenters = dict(segmenters)
        self.folder = folder
        self.time_limit = time_limit
        self._gradio = import_gradio()
        # Threads that stay: PyTorch starts a team of its own for each thread that calls it.
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="cgrseg-demo")

    def segment(self, path: str, model: str) -> View:
        """
        Segment an uploaded photo with one of the models.

        Raises:
            gradio.Error: If it cannot be read, is too large or takes too long.
        """
        running = self._pool.submit(View.from_photo, self.segmenters[model], path)
        try:
            return running.result(timeout=self.time_limit)
        except UnreadableImageError as error:
            raise self._make_error(str(error).replace(path, Path(path).name)) from error
        except TimeoutError:
            running.cancel()  # what has begun cannot be interrupted: it keeps its place until it ends
            raise self._make_error(
                f"This took longer than the {self.time_limit:g} seconds that are allowed here. Try a smaller photo, or "
                "try again when fewer people use the page."
            ) from None

    def show(self, path: str | None, model: str, percent: float) -> Any:
        """Segment a photo and return what the page shows of it, in the order of `make_page`."""
        gr = self._gradio
        if path is None:
            return gr.skip()
        view = self.segment(path, model)
        classes = [(name, class_id) for class_id, name in view.segmentation.id2label.items()]
        largest = view.segmentation.class_ids[0]
        return (
            gr.Column(visible=True),
            view,
            self.draw_overlay(view, percent),
            gr.Label(None, label="Click the photo to see the class of a pixel"),
            view.list_classes(),
            str(view.segmentation.save(self._make_folder() / f"{Path(path).stem}_classes.png")),
            gr.Dropdown(classes, value=largest),
            self.draw_heat_map(view, largest),
        )

    def draw_overlay(self, view: View | None, percent: float) -> str:
        """Draw the overlay with an opacity in percent, and return its file."""
        return self._save(self._check_remembered(view).draw_overlay(percent / 100), "overlay.jpg")

    def draw_heat_map(self, view: View | None, class_id: int) -> str:
        """Draw the heat map of a class, and return its file."""
        return self._save(self._check_remembered(view).draw_heat_map(class_id), "heat_map.jpg")

    def look_up(self, view: View | None, x: int, y: int) -> "gradio.Label":
        """Class and scores of a pixel of the overlay."""
        view = self._check_remembered(view)
        x, y = view.find_pixel(x, y)
        return self._gradio.Label(view.compute_scores(x, y), label=f"Pixel ({x}, {y})")

    def _save(self, image: Image.Image, name: str) -> str:
        # Gradio would write equal images of two visitors to the same file, while one of them may be reading it.
        file = self._make_folder() / name
        image.save(file, quality=90)
        return str(file)

    def _make_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _check_remembered(self, view: View | None) -> View:
        if view is None:
            raise self._make_error("This photo was forgotten after some time: choose it again.")
        return view

    def _make_error(self, message: str) -> Exception:
        # Gradio shows messages as HTML, and names of files and classes come from strangers.
        return self._gradio.Error(html.escape(message), print_exception=False)


def make_page(
    segmenters: Mapping[str, Segmenter],
    folder: str | os.PathLike,
    time_limit: float = 60.0,
    queue_size: int = 16,
    concurrency: int = 1,
) -> "gradio.Blocks":
    """
    Lay out the page and connect its parts.

    Args:
        segmenters (`Mapping[str, Segmenter]`):
            The models by the name that visitors see; the first one is chosen at the start.
        folder (`str` or `os.PathLike`):
            Folder for images and label maps: that of Gradio's own files, `GRADIO_TEMP_DIR`.
        time_limit (`float`, *optional*, defaults to 60.0), queue_size (`int`, *optional*, defaults to 16),
            concurrency (`int`, *optional*, defaults to 1): See [`serve`].

    Returns:
        `gradio.Blocks`: the page, to be launched.
    """
    gr = import_gradio()
    desk = PhotoDesk(segmenters, folder, time_limit, concurrency)
    names = list(segmenters)
    with gr.Blocks(title="CGRSeg", analytics_enabled=False, delete_cache=(600, _FILES_KEPT)) as page:
        state = gr.State(time_to_live=_REMEMBERED)
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                photo = gr.Image(
                    label="Photo", type="filepath", image_mode=None, height=280, buttons=[], elem_id="photo"
                )
                # Gradio would open the file, and fail without words. It has checked before that this is an upload.
                photo.preprocess = lambda file: None if file is None else file.path
                gr.Examples(
                    [str(EXAMPLES / one["file"]) for one in _read_sources()],
                    photo,
                    cache_examples=False,
                    elem_id="examples",
                )
                gr.Markdown(_credit_examples())
                model = gr.Dropdown(names, value=names[0], label="Model", filterable=False, elem_id="model")
            with gr.Column(scale=3, min_width=320, visible=False) as results:
                with gr.Tab("Classes"):
                    overlay = gr.Image(
                        label="Classes",
                        alt_text="The photo in the colours of its classes",
                        elem_id="overlay",
                        buttons=["download", "fullscreen"],
                        **_SHOWN,
                    )
                    opacity = gr.Slider(
                        0, 100, value=55, step=5, label="Opacity of the colours in %", buttons=[], elem_id="opacity"
                    )
                    scores = gr.Label(num_top_classes=3, elem_id="scores")
                    table = gr.Dataframe(label="Classes in the photo", interactive=False, elem_id="classes", **_TABLE)
                    download = gr.DownloadButton("Download the label map (PNG)", variant="primary", elem_id="download")
                with gr.Tab("Heat map"):
                    heat_class = gr.Dropdown([], label="Class", elem_id="heat-class")
                    heat_map = gr.Image(
                        label="Probability",
                        alt_text="The probability of the class",
                        elem_id="heat-map",
                        buttons=[],
                        **_SHOWN,
                    )

        def look_up(view: View | None, event: gr.SelectData) -> Any:  # type: ignore[name-defined]
            return desk.look_up(view, *event.index)

        private, quick = {"api_visibility": "private"}, {"show_progress": "hidden", "concurrency_limit": 4}
        network = {"concurrency_limit": concurrency, "show_progress_on": photo, "api_name": "segment"}
        shown = [results, state, overlay, scores, table, download, heat_class, heat_map]
        chosen = gr.on(
            [photo.change, model.change], lambda: gr.Column(visible=False), None, results, queue=False, **private
        )
        chosen.then(desk.show, [photo, model, opacity], shown, **network)
        opacity.change(desk.draw_overlay, [state, opacity], overlay, trigger_mode="always_last", **quick)
        overlay.select(look_up, state, scores, trigger_mode="always_last", **quick, **private)
        heat_class.input(desk.draw_heat_map, [state, heat_class], heat_map, **quick)
    return page.queue(max_size=queue_size, api_open=False)


def serve(
    segmenters: Mapping[str, Segmenter],
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    time_limit: float = 60.0,
    queue_size: int = 16,
    concurrency: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """
    Serve the page until the process is interrupted.

    Args:
        segmenters (`Mapping[str, Segmenter]`):
            The models by the name that visitors see; the first one is chosen at the start. `max_pixels` of each is the
            limit for its photos.
        host (`str`, *optional*, defaults to `"127.0.0.1"`), port (`int`, *optional*, defaults to 7860):
            Address to listen on. Port 0 takes a free one.
        time_limit (`float`, *optional*, defaults to 60.0):
            Seconds that a photo may take, once it is its turn.
        queue_size (`int`, *optional*, defaults to 16):
            Visitors that may wait.
        concurrency (`int`, *optional*, defaults to 1):
            Photos that are segmented at a time.
        say (`Callable`, *optional*, defaults to `print`):
            Function of the address, called once the page can be opened.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the address cannot be used.

    Example:

    ```python
    from cgrseg_hf.demo import serve
    from cgrseg_hf.inference import Segmenter

    serve({"streets": Segmenter.from_pretrained(max_pixels=16_000_000)})
    ```
    """
    gr = import_gradio()
    port = find_port(host, port)
    most_pixels = max(one.max_pixels or 2**28 for one in segmenters.values())  # Pillow's own limit is lower
    with tempfile.TemporaryDirectory(prefix="cgrseg-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # for uploads, and for what the page shows
        page = make_page(segmenters, folder, time_limit, queue_size, concurrency)
        page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            footer_links=[],
            run_history=False,
            state_session_capacity=_SESSIONS,
            allowed_paths=[str(EXAMPLES)],
            max_file_size=max(_BYTES_PER_PIXEL * most_pixels, 2**20),
            ssr_mode=False,
            mcp_server=False,
            # The fonts of the visitor's system: none is fetched from elsewhere.
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        )
        say(f"The page is at {page.local_url} (Ctrl+C ends it)")
        page.block_thread()


def import_gradio() -> ModuleType:
    """
    Import Gradio without its analytics.

    Raises:
        ImportError: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return import_optional("gradio", "demo", "Web pages")


def find_port(host: str, port: int) -> int:
    """
    Check that an address can be listened on, and return its port: for 0, a free one.

    Raises:
        OSError: If it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as listener:
            return listener.getsockname()[1]
    except OSError as error:
        raise OSError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. Choose another --port or --host."
        ) from error


def _read_sources() -> list[dict[str, str]]:
    return json.loads((EXAMPLES / "sources.json").read_text(encoding="utf-8"))


def _credit_examples() -> str:
    """Titles, sources and licence of the example photos, in Markdown."""
    sources = _read_sources()
    titles = ", ".join(f"[{one['title']}]({one['source']})" for one in sources)
    licenses = ", ".join(dict.fromkeys(f"[{one['license']}]({one['license_url']})" for one in sources))
    return f"<small>Examples, on Flickr by way of COCO: {titles}. {licenses}; made smaller.</small>"
