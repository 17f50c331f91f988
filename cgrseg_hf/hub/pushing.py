# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Sends a trained model to the Hub, once it loads for somebody who does not have this package."""

import contextlib
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

from .cards import CARD_FILE
from .repos import Repo, check_visibility, find_leftovers, look_up
from .staging import draw_overlays, find_photos, stage_folder

# What the HTTP library that huggingface_hub uses, not always the same one, raises where no answer came.
_HttpError = HfHubHTTPError.__bases__[0]
# Variables of the environment that are not for the code of models.
_SECRET = re.compile(r"(^|_)(TOKENS?|SECRETS?|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?)(_|$)", re.IGNORECASE)
_PROGRAM = Path(__file__).parent / "loading_check.py"


@dataclass(frozen=True)
class Push:
    """
    What was sent, or would be.

    Args:
        files (`dict[str, int]`): Names in the repo, folders with slashes, and sizes in bytes.
        model_class (`str`): The class that the folder loads as without this package.
        labels (`list[str]`): Classes that it found in a made-up picture.
        url (`str`, *optional*): The commit, unless nothing was sent.
        deleted (`list[str]`, *optional*): Names of files in the repo that were deleted, as an earlier push left them;
            `None` where the repo could not be read, which only a dry run takes.
    """

    files: dict[str, int]
    model_class: str
    labels: list[str]
    url: str | None = None
    deleted: list[str] | None = None


def push_folder(
    source: str | os.PathLike,
    repo_id: str,
    *,
    report: str | os.PathLike | None = None,
    exports: Sequence[str | os.PathLike] = (),
    pictures: Sequence[str | os.PathLike] = (),
    picture_credit: str = "",
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    trust_remote_code: bool = False,
) -> Push:
    """
    Push a model to the Hub: weights, settings, code, card, evaluation, exports, and pictures for the card.

    The code that goes along is this package's own; other code in the folder or an export, and a handler.py or
    requirements.txt that differs from this version's, is refused unless it is trusted. Before
    anything is sent, with `dry_run` too, a process of its own that lacks this package loads what would be, segments a
    made-up picture and calls the handler for Inference Endpoints, see [`check_loading`]. If the card in the
    repo says that an earlier push has written there, files with the names of what a push writes that this one does not
    replace are deleted with the same commit: weights in other parts, code, evaluation, pictures and exports, which
    belong to other weights. Other files stay. The Hub is the one that the environment variable `HF_ENDPOINT` names, by
    default https://huggingface.co.

    Args:
        source (`str` or `os.PathLike`):
            Folder of the model, its image processor and its card.
        repo_id (`str`):
            The repo, `"user/name"`; it is made if it does not exist.
        report (`str` or `os.PathLike`, *optional*):
            Folder that `cgrseg evaluate` wrote, or its `report.json`; by default the one in `source`, if there is one.
            It has to be of a model with these classes; whether it is of these weights is not checked. Where the data
            lay and the names and pictures of their images stay here.
        exports (`Sequence`):
            Folders that `cgrseg export` wrote, which become folders of the repo; what else lies in them stays here.
        pictures (`Sequence`):
            Photos to show on the card, at most 1024 pixels a side, with their classes, which that process finds.
        picture_credit (`str`, *optional*):
            Whose photos these are and their licence, in Markdown; needed with `pictures`.
        private (`bool`, *optional*):
            Whether a new repo is for its owner alone, by default as the owner's account has it; one that exists has to
            be so already.
        revision (`str`, *optional*):
            Branch to commit to, made from `main` if need be; by default `main`.
        message (`str`, *optional*):
            Message of the commit.
        dry_run (`bool`, *optional*, defaults to `False`):
            Do everything but send.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code in `source` and `exports` that is not this package's, such as another architecture's or a
            handler of your own, goes along and is run here for the check. Code of CGRSeg's, handler.py and
            requirements.txt in `source` stay as they are then.

    Returns:
        [`Push`]: what was sent.

    Raises:
        ValueError: If the folder, its card or what goes with it is not ready, brings code that is not trusted, does not
            load, or the Hub refuses it; if the repo exists with another visibility than `private`; or if there is no
            token.
        OSError: If the Hub cannot be reached or fails.
    """
    validate_repo_id(repo_id)
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is no name of a repo: give the owner too, as in user/name.")
    if not dry_run and get_token() is None:
        raise ValueError(
            "There is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN to one that may write "
            "(https://huggingface.co/settings/tokens). --dry-run needs none."
        )
    branch = None if revision == "main" else revision
    with tempfile.TemporaryDirectory(prefix="cgrseg-push-") as temporary:
        folder = Path(temporary)
        stage_folder(
            Path(source),
            folder,
            repo_id,
            revision=branch,
            report=None if report is None else Path(report),
            exports=[Path(path) for path in exports],
            pictures=[Path(path) for path in pictures],
            picture_credit=picture_credit,
            trust_remote_code=trust_remote_code,
        )
        is_known, repo = _look_up(repo_id, branch, dry_run)
        check_visibility(repo_id, repo, private)
        photos = find_photos(folder)
        model_class, labels, label_maps = _segment_in_process(folder, photos)
        draw_overlays(folder, photos, label_maps)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        leftovers = find_leftovers(repo, files)
        message = message or "Push model with cgrseg"
        url = None if dry_run else send_folder(folder, repo_id, private, branch, message, leftovers)
    return Push(files, model_class, labels, url, leftovers if is_known else None)


def check_loading(folder: Path) -> tuple[str, list[str]]:
    """
    Load a folder in a process that cannot import this package, and segment a made-up picture.

    The process runs the code in the folder as the user who calls this; it is no sandbox. Its environment lacks whatever
    is called a token, a password or the like, the Hub's client finds neither a token nor a cache there, and is offline.

    Args:
        folder (`Path`): What would be sent, with `handler.py`; its code must be trusted.

    Returns:
        `tuple[str, list[str]]`: the class that it loads as, and the labels of the classes found.

    Raises:
        ValueError: If it does not load, or what it answers is no segmentation; with the last line of the error.
    """
    return _segment_in_process(folder)[:2]


def _segment_in_process(folder: Path, photos: Sequence[Path] = ()) -> tuple[str, list[str], list[np.ndarray]]:
    """What `check_loading` says of a folder, and the label maps of photos, `(height, width)`, int32."""
    with tempfile.TemporaryDirectory(prefix="cgrseg-modules-") as empty:
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        # What an earlier load has cached could stand in for what is missing from the folder.
        environment |= {"HF_HOME": empty, "HF_HUB_CACHE": f"{empty}/hub", "HF_MODULES_CACHE": f"{empty}/modules"}
        environment |= {"HF_HUB_OFFLINE": "1"}
        # As text, so that Python looks for modules in the empty folder and not beside the program.
        command = [sys.executable, "-c", _PROGRAM.read_text(encoding="utf-8"), str(folder.resolve())]
        command += [str(photo.resolve()) for photo in photos]
        ended = subprocess.run(
            command, env=environment, cwd=empty, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if ended.returncode != 0:
            reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            raise ValueError(
                f"The folder does not load for somebody without this package, so nothing was sent: {reason}"
            )
        label_maps = [np.load(Path(empty, f"{number}.npy"), allow_pickle=False) for number in range(len(photos))]
    answer = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer["class"], answer["labels"], label_maps


def send_folder(
    folder: Path,
    repo_id: str,
    private: bool | None,
    branch: str | None,
    message: str,
    deleted: Sequence[str] = (),
) -> str:
    """
    Commit all files of a folder to a repo, which is made if need be, and delete others there.

    Returns:
        `str`: the commit's address.

    Raises:
        ValueError: If the Hub refuses the card or the token.
        OSError: If it cannot be reached or fails.
    """
    api = HfApi()
    with _hub_errors_in_words(repo_id):
        _validate(folder / CARD_FILE)
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo.repo_id, branch=branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=folder,
            revision=branch,
            commit_message=message,
            delete_patterns=[glob.escape(name) for name in deleted] or None,
        )
    return str(commit.commit_url)


def _look_up(repo_id: str, branch: str | None, dry_run: bool) -> tuple[bool, Repo | None]:
    """Whether the Hub could be asked, which only a dry run goes without, and the repo, if there is one."""
    try:
        with _hub_errors_in_words(repo_id):
            return True, look_up(HfApi(), repo_id, branch)
    except (ValueError, OSError):
        if not dry_run:
            raise
        return False, None


def _validate(card: Path) -> None:
    """Have the Hub check the card's metadata, before a repo is made for it."""
    try:
        ModelCard(card.read_text(encoding="utf-8")).validate()
    except ValueError as error:
        try:
            reasons = "\n".join(f"- {one['message']}" for one in json.loads(str(error))["errors"])
        except (ValueError, KeyError, TypeError):
            reasons = str(error)
        raise ValueError(f"The Hub refuses the card's metadata, so nothing was sent:\n{reasons}") from error


@contextlib.contextmanager
def _hub_errors_in_words(repo_id: str) -> Iterator[None]:
    """Say what to do about a Hub that refuses or is not there."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ValueError(f"The Hub does not know the token: log in anew with `hf auth login`. {error}") from error
        if error.response.status_code == HTTPStatus.FORBIDDEN:
            raise ValueError(
                f"The token may not write to {repo_id}: take one with write access, and a repo of its owner or of an "
                f"organization of theirs. {error}"
            ) from error
        raise
    except _HttpError as error:
        raise OSError(f"The Hub {HfApi().endpoint} cannot be reached: {error}") from error
