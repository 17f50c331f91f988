# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Where a model is: the package's own, a folder, or a repository of the Hugging Face Hub.

Nothing heavy is loaded for it, so that a wrong name is told before anything else takes time.
"""

import json
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path

from ..utils.messages import did_you_mean, find_similar, one_line
from . import DEFAULT_MODEL

logger = logging.getLogger(__name__)

SHIPPED = "shipped"
# Those of configuration_cgrseg.py, which loads transformers.
PRESET_NAMES = ("xs", "t", "b", "l")
_CONFIG = "config.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


def expand_shipped(name_or_folder: str | os.PathLike) -> str:
    """The folder of the shipped model for its name `"shipped"`; any other name as it is."""
    name = os.fspath(name_or_folder)
    return str(DEFAULT_MODEL) if name == SHIPPED else name


def locate_model(name_or_folder: str | os.PathLike, other_names: Collection[str] = ()) -> str:
    """
    Find a model.

    The Hub is asked once whether it has it: `from_pretrained` alone would try for minutes where there is no connection.

    Args:
        name_or_folder (`str` or `os.PathLike`):
            `"shipped"`, of which name a folder is `"./shipped"`, the folder of a model or of an export, or an id on
            the Hugging Face Hub, `owner/name`.
        other_names (`Iterable[str]`, *optional*):
            What else whoever asks takes for a model; such a name is returned as it is.

    Returns:
        `str`: what `from_pretrained` takes: the folder or the id. While the Hub does not answer, the folder of the copy
        that was fetched before.

    Raises:
        ValueError: If there is no such model, or the Hub cannot be asked.
    """
    name = os.fspath(name_or_folder)
    if name in other_names:
        return name
    path = Path(expand_shipped(name) or "none given").expanduser()
    if path.is_file():
        raise ValueError(
            f"{name} is a file: pass the folder of a model or an export, or an id on the Hugging Face Hub."
        )
    if path.is_dir():
        return _check_folder(name, path)
    similar = _find_similar_folder(path)
    hint = f" Did you mean {similar}?" if similar else did_you_mean(name, (SHIPPED, *other_names))
    if not _HUB_ID.fullmatch(name):
        is_word = re.fullmatch(r"[\w-][\w.-]*", name)
        known = ", ".join(other_names)
        others = (
            f": {SHIPPED} is the package's own model,{f' {known} are known too,' if known else ''} and an id on the "
            "Hugging Face Hub has its owner, owner/name."
        )
        raise ValueError(f"There is no folder {name!r}{others if is_word else '.'}{hint}")
    return _find_on_hub(name, hint)


def _check_folder(name: str, folder: Path) -> str:
    if (folder / _CONFIG).is_file():
        try:
            json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{folder / _CONFIG} is no JSON ({error}): take a new copy of it.") from error
        return str(folder)
    models = sorted(file.parent for file in folder.glob(f"*/{_CONFIG}"))
    hint = f" Did you mean {models[0]}?" if models else ""
    raise ValueError(f"{name} is no model: there is no {_CONFIG} in it.{hint}")


def _find_similar_folder(path: Path) -> Path | None:
    """The folder that is there in place of a mistyped one, part by part of its path."""
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not (found / part).is_dir():
            try:
                names = [folder.name for folder in found.iterdir() if folder.is_dir() and folder.name[0] != "."]
            except OSError:
                return None
            similar = find_similar(part, names)
            if similar is None:
                return None
            part = similar
        found = found / part
    return found


def _find_on_hub(repo_id: str, hint: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        reason = ask_hub(repo_id)
    except RepositoryNotFoundError:
        raise ValueError(
            f"There is neither a folder {repo_id} nor, for whom you are logged in as, a model of that id on the "
            f"Hugging Face Hub ({constants.ENDPOINT}).{hint}"
        ) from None
    if reason is None:
        return repo_id
    kept = find_fetched(repo_id)
    if kept is not None:
        logger.warning("The Hugging Face Hub does not answer: %s is the copy that was fetched before.", repo_id)
        return str(kept)
    raise ValueError(
        f"There is no folder {repo_id}, and the Hugging Face Hub ({constants.ENDPOINT}) could not be reached for a "
        f"model of that id: {reason}.{hint} Check the connection, name another Hub by the environment variable "
        "HF_ENDPOINT, or give a folder; a model that was fetched before needs no connection."
    )


def find_fetched(repo_id: str) -> Path | None:
    """The folder of the cache with what was fetched of a model of the Hub; None if nothing was."""
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(repo_id, _CONFIG)
    return Path(kept).parent if isinstance(kept, str) else None


def ask_hub(repo_id: str, repo_type: str = "model") -> str | None:
    """
    Ask the Hub for a repository, once and not for long: downloads alone try again and again.

    Args:
        repo_id (`str`): The repository.
        repo_type (`str`, *optional*, defaults to `"model"`): Its kind, `"model"` or `"dataset"`.

    Returns:
        `str`, *optional*: why the Hub does not answer, without a full stop; None if it does, if not with what is asked.

    Raises:
        RepositoryNotFoundError: If it answers that there is none.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().repo_info(repo_id, repo_type=repo_type, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except RepositoryNotFoundError:
        raise
    except Exception as error:  # each of the clients that huggingface_hub has used has errors of its own
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            return None  # whoever fetches the model says what is wrong
        return "HF_HUB_OFFLINE forbids it" if constants.HF_HUB_OFFLINE else one_line(error).rstrip(".")
    return None
