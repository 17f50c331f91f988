# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The models that visitors of the page choose from, and what their cards say of them."""

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # another one than Python's own before Python 3.11
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

import yaml
from huggingface_hub import HfApi, ModelCardData, snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from transformers.utils import logging

from ..inference import Segmenter
from ..pretrained.loading import checked_downloads
from ..utils.messages import reason_of
from .errors import DemoError
from .limits import LARGEST_DOWNLOAD, LARGEST_SETTINGS, Limits, check_model

logger = logging.get_logger(__name__)

# Of a Hub model that a visitor names, only these are fetched: no code, and no pickle, which could hold some.
# No other settings, such as an adapter's, which name further files.
_FETCHED = re.compile(r"README\.md|(config|preprocessor_config)\.json|model[\w-]*\.safetensors(\.index\.json)?")
_NEEDED = ("config.json", "preprocessor_config.json")
# Visitors' models in memory; another one takes the place of the one that was not used for longest.
_KEPT = 2
# How much of a card is read, in bytes; longest title and description, in characters.
_LONGEST_CARD = 2**16
_LONGEST_TITLE = 200
_LONGEST_SUMMARY = 480


@dataclass(frozen=True)
class CardExcerpt:
    """
    What the page takes from a model's card, as plain text; empty where the card has it not.

    Args:
        title (`str`): Its title.
        summary (`str`): Its first paragraphs, up to some length.
        notice (`str`): What these set in bold at their beginning, such as "Research use only."
        data_sets (`tuple[str, ...]`): Names of the data sets that the model was trained on.
    """

    title: str = ""
    summary: str = ""
    notice: str = ""
    data_sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DemoModel:
    """
    A model to choose.

    Args:
        name (`str`): What it is called on the page.
        segmenter ([`Segmenter`]): The model.
        card ([`CardExcerpt`]): What its card says.
    """

    name: str
    segmenter: Segmenter
    card: CardExcerpt = CardExcerpt()


class ModelShelf:
    """
    The models of a page: those that it was started with, and where allowed any from the Hub.

    A visitor can name a repository of the Hub only, never a folder of this computer. Its configuration and its
    safetensors weights are fetched without this computer's token, and no code is.

    Args:
        names (`Sequence[str]`):
            Folders or Hub ids, the first of which is chosen at the beginning. They are loaded at once.
        engine (`str`, *optional*, defaults to `"auto"`), device (`str`, *optional*):
            See [`make_engine`].
        allow_any (`bool`, *optional*, defaults to `False`):
            Whether visitors may name models of the Hub.
        limits ([`Limits`], *optional*):
            What one photo may cost, and with it a model.

    Raises:
        ValueError: If a model cannot be loaded.
        OSError: Likewise.
    """

    def __init__(
        self,
        names: Sequence[str],
        engine: str = "auto",
        device: str | None = None,
        allow_any: bool = False,
        limits: Limits | None = None,
    ):
        limits = limits or Limits()
        self.allow_any = allow_any
        self._max_pixels = limits.max_pixels
        self._load = functools.partial(load_model, engine=engine, device=device, max_pixels=limits.max_pixels)
        self._models: dict[str, DemoModel] = {}
        for name in dict.fromkeys(names):
            model = self._load(name)
            title, count = model.name, 1
            while title in self._models:
                count += 1
                title = f"{model.name} ({count})"
            self._models[title] = replace(model, name=title)
        self._lock = threading.Lock()
        self._of_visitors: OrderedDict[str, Future[DemoModel]] = OrderedDict()
        self._to_fetch: SimpleQueue[tuple[str, Future[DemoModel]]] = SimpleQueue()
        if allow_any:  # not by an executor, for whose threads Python waits when it ends: a download may take long
            threading.Thread(target=self._fetch_in_turn, name="cgrseg-fetch", daemon=True).start()

    @property
    def choices(self) -> list[str]:
        """Names of the models that the page was started with."""
        return list(self._models)

    def get(self, choice: str | None = None) -> DemoModel:
        """
        One of the models that the page was started with, by its name; by default the first.

        Raises:
            DemoError: If there is none of that name.
        """
        name = self.choices[0] if choice is None else choice
        if name not in self._models:
            raise DemoError(f"There is no model {name!r} here: choose one of the list.")
        return self._models[name]

    def get_from_hub(self, repo_id: str, seconds: float) -> DemoModel:
        """
        A model of the Hub.

        Args:
            repo_id (`str`): Its id, owner/name.
            seconds (`float`):
                How long to wait for it; it goes on being fetched afterwards. Whoever waits for a model that could not
                be fetched makes the Hub be asked again; whoever does not (0) is told why it could not.

        Raises:
            DemoError: If this page does not allow it, there is no such model, or it does not fit or is not there yet.
        """
        if not self.allow_any:
            raise DemoError("This page uses the models of its list only.")
        repo_id = _check_repo_id(repo_id)
        with self._lock:
            if seconds > 0 and _has_failed(self._of_visitors.get(repo_id)):
                del self._of_visitors[repo_id]
            if repo_id not in self._of_visitors:
                self._of_visitors[repo_id] = Future()
                self._to_fetch.put((repo_id, self._of_visitors[repo_id]))
            self._of_visitors.move_to_end(repo_id)
            while len(self._of_visitors) > _KEPT:
                self._of_visitors.popitem(last=False)[1].cancel()
            loading = self._of_visitors[repo_id]
        try:
            return loading.result(timeout=seconds)
        except FutureTimeoutError:
            raise DemoError(f"{repo_id} is still being fetched. Try again in a minute.") from None
        except CancelledError:
            raise DemoError(
                f"{repo_id} was put aside for models that other visitors chose before it was fetched: choose it again."
            ) from None

    def _fetch_in_turn(self) -> None:
        while True:
            repo_id, loading = self._to_fetch.get()
            if loading.set_running_or_notify_cancel():
                try:
                    loading.set_result(self._fetch(repo_id))
                except BaseException as error:
                    loading.set_exception(error)

    def _fetch(self, repo_id: str) -> DemoModel:
        try:
            revision = HfApi(token=False).model_info(repo_id).sha  # what is looked at is what is fetched
            files = _list_files(repo_id, revision)
            with checked_downloads(repo_id, revision):
                folder = snapshot_download(repo_id, revision=revision, allow_patterns=files, token=False)
        except RepositoryNotFoundError:
            raise DemoError(f"There is no public model {repo_id} on the Hugging Face Hub: check the id.") from None
        except DemoError:
            raise
        except Exception as error:  # each of the clients that huggingface_hub has used has errors of its own
            logger.warning("%s could not be fetched: %s", repo_id, error)
            raise DemoError(
                f"{repo_id} could not be fetched: the Hugging Face Hub did not answer as expected."
            ) from error
        try:
            check_model(Path(folder), self._max_pixels)
            model = self._load(folder)
        except Exception as error:  # whatever is wrong with a stranger's files
            logger.warning("%s could not be loaded: %s", repo_id, error)
            reason = reason_of(error).replace(folder, repo_id).strip().split("\n")[0]
            raise DemoError(f"{repo_id} is no model that this page can use. {reason[:300]}") from error
        return replace(model, name=repo_id)


def _has_failed(loading: Future | None) -> bool:
    return loading is not None and loading.done() and (loading.cancelled() or loading.exception() is not None)


def load_model(name: str, engine: str = "auto", device: str | None = None, max_pixels: int | None = None) -> DemoModel:
    """Load a folder or Hub id, with what its card says; called as its card does, or else as the folder or id."""
    segmenter = Segmenter.from_pretrained(name, engine, device, max_pixels=max_pixels)
    folder = Path(name)
    if not folder.is_dir():
        return DemoModel(name, segmenter)
    card_file = folder / "README.md"
    if not card_file.is_file():
        return DemoModel(folder.resolve().name, segmenter)
    with card_file.open("rb") as file:
        card = read_excerpt(file.read(_LONGEST_CARD).decode("utf-8", errors="replace"))
    return DemoModel(card.title or folder.resolve().name, segmenter, card)


def read_excerpt(text: str) -> CardExcerpt:
    """
    What a model's card in Markdown says, with or without metadata.

    Strangers write cards: each step here takes time in proportion to the text's length, whatever the text.
    """
    metadata, content = _split_card(text)
    title = re.search(r"^# +(\S.*)$", content, re.MULTILINE)
    lead = content[title.end() :] if title else content
    lead = _without_comments(re.split(r"^#", lead, maxsplit=1, flags=re.MULTILINE)[0])
    paragraphs = [one.strip() for one in re.split(r"\n\s*\n", lead)]
    bold = [found[1] for one in paragraphs if (found := re.match(r"\*\*(.+?)\*\*", one))]
    return CardExcerpt(
        _to_plain_text(title[1])[:_LONGEST_TITLE] if title else "",
        _shorten(" ".join(filter(None, map(_to_plain_text, paragraphs)))),
        _shorten(" ".join(map(_to_plain_text, bold))),
        _data_sets_of(metadata),
    )


def _split_card(text: str) -> tuple[str, str]:
    """A card's metadata, in YAML, and its content."""
    lines = text.lstrip().splitlines()
    if lines and lines[0].rstrip() == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :])
    return "", text


def _data_sets_of(metadata: str) -> tuple[str, ...]:
    """The data sets in a card's metadata, called as its scores call them."""
    try:
        data = ModelCardData(**(yaml.safe_load(metadata) or {}), ignore_metadata_errors=True)
        names = {result.dataset_type: result.dataset_name for result in data.eval_results or []}
        ids = [data.datasets] if isinstance(data.datasets, str) else data.datasets or []
        return tuple(_to_plain_text(names.get(one) or one)[:_LONGEST_TITLE] for one in ids)
    except Exception:  # they are broken, in whichever way
        return ()


def _without_comments(markdown: str) -> str:
    """Markdown without HTML comments; one that is not closed lasts to the end."""
    first, *others = markdown.split("<!--")
    return "".join((first, *(one.partition("-->")[2] for one in others)))


def _to_plain_text(markdown: str) -> str:
    text = re.sub(r"<[^<>]*>", "", markdown)
    text = re.sub(r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1", text)
    return " ".join(re.sub(r"\*\*|__|`", "", text).split())


def _shorten(text: str) -> str:
    """The first sentences of a text, as many as fit; or else its first words."""
    if len(text) <= _LONGEST_SUMMARY:
        return text
    end = max(text.rfind(mark, 0, _LONGEST_SUMMARY) for mark in (". ", "! ", "? "))
    return text[: end + 1] if end > 0 else f"{text[:_LONGEST_SUMMARY].rsplit(' ', 1)[0]} …"


def _check_repo_id(text: str) -> str:
    repo_id = (text or "").strip()
    try:
        validate_repo_id(repo_id)
        is_id = "/" in repo_id
    except HFValidationError:
        is_id = False
    if not is_id:
        raise DemoError(f"{repo_id[:100]!r} is no id of a model on the Hugging Face Hub: write it as owner/name.")
    return repo_id


def _list_files(repo_id: str, revision: str) -> list[str]:
    """What to fetch of a repository; one that has not what is needed, or too much of it, is refused."""
    tree = HfApi(token=False).list_repo_tree(repo_id, revision=revision)
    sizes = {one.path: one.size for one in tree if isinstance(one, RepoFile) and _FETCHED.fullmatch(one.path)}
    missing = [name for name in _NEEDED if name not in sizes]
    if not any(name.endswith(".safetensors") for name in sizes):
        missing.append("model.safetensors")
    if missing:
        _refuse(repo_id, f"it has no {' and no '.join(missing)}, which a model for segmentation needs here")
    total = sum(sizes.values())
    if total > LARGEST_DOWNLOAD:
        _refuse(
            repo_id, f"it takes {total / 2**30:.1f} GB, more than the {LARGEST_DOWNLOAD / 2**30:.1f} GB allowed here"
        )
    for name, size in sizes.items():
        if name.endswith(".json") and size > LARGEST_SETTINGS:
            _refuse(repo_id, f"its {name} is far too large ({size / 2**20:.1f} MB)")
    return list(sizes)


def _refuse(repo_id: str, reason: str) -> NoReturn:
    raise DemoError(f"{repo_id} cannot be used: {reason}.")
