# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pushing a trained model to the Hub, after a check that it loads for somebody who does not have this package."""

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
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id

from .cards import CARD_FILE, is_written_by_push
from .staging import draw_overlays, find_leftovers, find_photos, stage_folder

# Variables of the environment that the code of models must not see.
_SECRET = re.compile(r"(^|_)(TOKENS?|SECRETS?|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?)(_|$)", re.IGNORECASE)
_PROGRAM = Path(__file__).parent / "loading_check.py"
_CHECK_TIMEOUT = 600  # seconds


@dataclass(frozen=True)
class Push:
    """
    The files that were sent, or would be.

    Args:
        files (`dict[str, int]`): Names in the repo, folders with slashes, and sizes in bytes.
        model_class (`str`): The class that the folder loads as without this package.
        labels (`list[str]`): Classes that it found in a generated picture.
        url (`str`, *optional*): Address of the commit, unless nothing was sent.
        deleted (`list[str]`, *optional*): Names of files of an earlier push that were deleted from the repo; `None`
            where the repo could not be read, which only a dry run accepts.
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

    The code that is sent is this package's own. Other code in the folder or an export, and a handler.py or
    requirements.txt that differs from this version's, is refused unless it is trusted. Before anything is sent, with
    `dry_run` too, a separate process without this package loads the staged folder, segments a generated picture and
    calls the handler for Inference Endpoints, see [`check_loading`].

    If the card in the repo says that an earlier push has written there, its files that this push does not replace are
    deleted with the same commit, since they belong to other weights. They are recognised by their names: weights in
    other parts, code, evaluation, pictures and exports. Other files stay. The Hub is the one that the environment
    variable `HF_ENDPOINT` names, by default https://huggingface.co.

    Args:
        source (`str` or `os.PathLike`):
            Folder of the model, its image processor and its card.
        repo_id (`str`):
            The repo, `"user/name"`; it is made if it does not exist.
        report (`str` or `os.PathLike`, *optional*):
            Folder that `cgrseg evaluate` wrote, or its `report.json`; by default the one in `source`, if there is one.
            A report of other classes is refused, and so is one of other weights if it has their checksums. The place of
            the data and the names and pictures of its images are not sent.
        exports (`Sequence`):
            Folders that `cgrseg export` wrote, which become folders of the repo; other files in them are not sent.
        pictures (`Sequence`):
            Photos to show on the card, at most 1024 pixels a side, with the classes that the model finds in them.
        picture_credit (`str`, *optional*):
            Whose photos these are and their licence, in Markdown; needed with `pictures`.
        private (`bool`, *optional*):
            Whether a new repo is private, by default as the owner's account has it; an existing one must be so already.
        revision (`str`, *optional*):
            Branch to commit to, made from `main` if need be; by default `main`.
        message (`str`, *optional*):
            Message of the commit.
        dry_run (`bool`, *optional*, defaults to `False`):
            Do everything but send.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code in `source` and `exports` that is not this package's, such as another architecture's or your
            own handler, is sent, and run here for the check. Code of CGRSeg, handler.py and requirements.txt in
            `source` are then sent as they are.

    Returns:
        [`Push`]: what was sent.

    Raises:
        ValueError: If the folder, its card or what goes with it is not ready, has code that is not trusted, does not
            load, or the Hub refuses it; if the repo exists with another visibility than `private`; or if there is no
            token.
        OSError: If the Hub cannot be reached or fails.
    """
    validate_repo_id(repo_id)
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is not the name of a repo: add the owner, as in user/name.")
    if not dry_run and get_token() is None:
        raise ValueError(
            "There is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN to one with write access "
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
        present = find_pushed_files(repo_id, branch, private, dry_run)
        photos = find_photos(folder)
        model_class, labels, label_maps = _segment_in_process(folder, photos)
        draw_overlays(folder, photos, label_maps)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        leftovers = None if present is None else find_leftovers(present, files)
        message = message or "Push model with cgrseg"
        url = None if dry_run else send_folder(folder, repo_id, private, branch, message, leftovers or ())
    return Push(files, model_class, labels, url, leftovers)


def check_loading(folder: Path) -> tuple[str, list[str]]:
    """
    Load a folder in a process that cannot import this package, and segment a generated picture.

    The process runs the code in the folder as the user who calls this; it is not a sandbox. Variables with the name of
    a token, a password or the like are not in its environment. The Hub's client finds neither a token nor a cache
    there, and is offline.

    Args:
        folder (`Path`): The files to send, with `handler.py`; the code must be trusted.

    Returns:
        `tuple[str, list[str]]`: the class that it loads as, and the labels of the classes found.

    Raises:
        ValueError: If it does not load, or its answer is not a segmentation; with the last line of the error.
    """
    return _segment_in_process(folder)[:2]


def _segment_in_process(folder: Path, photos: Sequence[Path] = ()) -> tuple[str, list[str], list[np.ndarray]]:
    """The answer of `check_loading`, and the label maps of photos, `(height, width)`, int32."""
    with tempfile.TemporaryDirectory(prefix="cgrseg-modules-") as empty:
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        # A cache of an earlier load could hide that a file is missing from the folder.
        environment |= {"HF_HOME": empty, "HF_HUB_CACHE": f"{empty}/hub", "HF_MODULES_CACHE": f"{empty}/modules"}
        environment |= {"HF_HUB_OFFLINE": "1"}
        # -B, or the handler's bytecode would be written into the folder, and sent. As text, so that Python looks for
        # modules in the empty folder and not beside the program.
        command = [sys.executable, "-B", "-c", _PROGRAM.read_text(encoding="utf-8"), str(folder.resolve())]
        command += [str(photo.resolve()) for photo in photos]
        options = {"env": environment, "cwd": empty, "stdin": subprocess.DEVNULL, "timeout": _CHECK_TIMEOUT}
        try:
            process = subprocess.run(command, capture_output=True, text=True, **options)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"The folder did not load within {_CHECK_TIMEOUT} seconds, so nothing was sent: look at its code."
            ) from error
        if process.returncode != 0:
            reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise ValueError(
                f"The folder does not load for somebody without this package, so nothing was sent: {reason}"
            )
        label_maps = [np.load(Path(empty, f"{number}.npy"), allow_pickle=False) for number in range(len(photos))]
    answer = json.loads(process.stdout.strip().splitlines()[-1])
    return answer["class"], answer["labels"], label_maps


def find_pushed_files(
    repo_id: str, branch: str | None = None, private: bool | None = None, dry_run: bool = False
) -> list[str] | None:
    """
    List the files of a branch, or of `main` if there is no such branch; none unless the card is of an earlier push.

    Returns:
        `list[str]`, *optional*: the names; `None` if the Hub cannot be asked, which only a dry run accepts.

    Raises:
        ValueError: If the repo has another visibility than `private`, which a push does not change.
    """
    try:
        with _hub_errors_explained(repo_id):
            repo = _find_repo(repo_id, branch)
            files = [] if repo is None else [sibling.rfilename for sibling in repo.siblings or ()]
            is_pushed = repo is not None and CARD_FILE in files and _has_pushed_card(repo_id, repo.sha)
    except (ValueError, OSError):
        if dry_run:
            return None
        raise
    if repo is not None and private is not None and repo.private != private:
        current, wanted = ("private", "public") if repo.private else ("public", "private")
        raise ValueError(
            f"{repo_id} exists and is {current}, not {wanted}, so nothing was sent: change that in the repo's settings "
            f"on the Hub, or leave out --{wanted} (private={private}) to push to it as it is."
        )
    return files if is_pushed else []


def _find_repo(repo_id: str, branch: str | None) -> ModelInfo | None:
    try:
        return HfApi().model_info(repo_id, revision=branch)
    except RevisionNotFoundError:
        return HfApi().model_info(repo_id)
    except RepositoryNotFoundError:
        return None


def _has_pushed_card(repo_id: str, commit: str | None) -> bool:
    with tempfile.TemporaryDirectory(prefix="cgrseg-card-") as folder:
        card = Path(HfApi().hf_hub_download(repo_id, CARD_FILE, revision=commit, cache_dir=folder))
        return is_written_by_push(card.read_text(encoding="utf-8", errors="replace"))


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
    """
    api = HfApi()
    with _hub_errors_explained(repo_id):
        try:  # before a repo is made for it
            ModelCard((folder / CARD_FILE).read_text(encoding="utf-8")).validate()
        except ValueError as error:
            raise ValueError(f"The Hub refuses the card's metadata, so nothing was sent: {error}") from error
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


@contextlib.contextmanager
def _hub_errors_explained(repo_id: str) -> Iterator[None]:
    """Say what to do if the Hub refuses or does not answer."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ValueError(f"The Hub does not know the token: log in again with `hf auth login`. {error}") from error
        if error.response.status_code == HTTPStatus.FORBIDDEN:
            raise ValueError(
                f"The token may not write to {repo_id}: use one with write access, and a repo of its owner or of an "
                f"organization of theirs. {error}"
            ) from error
        raise
    except HTTPError as error:
        raise OSError(f"The Hub {HfApi().endpoint} cannot be reached: {error}") from error
