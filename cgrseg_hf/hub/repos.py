# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a repo holds before a push, and what of that an earlier push has left there."""

import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..engines.export_settings import EXPORT_FILE
from .cards import CARD_FILE, is_written_by_push
from .files import EXPORT_FILES, PICTURES, REPORT, REPORT_FILES

# Names of files that a push writes: weights in any number of parts, code, and an evaluation.
_WEIGHTS = r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
_CODE = r"(configuration|modeling|image_processing|optimized|post_processing)_(cgrseg|efficientformerv2)\.py"
_OTHERS = "|".join(map(re.escape, ("handler.py", "requirements.txt", REPORT, *REPORT_FILES)))
_OWNED = re.compile(f"{_WEIGHTS}|{_CODE}|{_OTHERS}")
_OF_AN_EXPORT = re.compile("|".join((_CODE, *(re.escape(name) for names in EXPORT_FILES.values() for name in names))))
# Of a photo on a card and of its classes.
PICTURE_ENDINGS = (".jpg", "-classes.jpg")


@dataclass(frozen=True)
class Repo:
    """
    A repo as it is before a push.

    Args:
        private (`bool`): Whether it is for its owner alone.
        files (`list[str]`): Names of the branch's files, folders with slashes.
        is_pushed (`bool`): Whether its card says that a push has written there.
    """

    private: bool
    files: list[str]
    is_pushed: bool


def look_up(api: HfApi, repo_id: str, branch: str | None = None) -> Repo | None:
    """A repo and the files of a branch, or those of `main`, of which a new branch is made; `None` if there is none."""
    try:
        try:
            info = api.model_info(repo_id, revision=branch)
        except RevisionNotFoundError:
            info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    files = [one.rfilename for one in info.siblings or ()]
    return Repo(bool(info.private), files, CARD_FILE in files and _is_pushed(api, repo_id, info.sha))


def _is_pushed(api: HfApi, repo_id: str, commit: str | None) -> bool:
    with tempfile.TemporaryDirectory(prefix="cgrseg-card-") as folder:
        card = Path(api.hf_hub_download(repo_id, CARD_FILE, revision=commit, cache_dir=folder))
        return is_written_by_push(card.read_text(encoding="utf-8", errors="replace"))


def check_visibility(repo_id: str, repo: Repo | None, private: bool | None) -> None:
    """
    See that a repo that exists is as visible as it should be: a push does not change that.

    Raises:
        ValueError: If it is not.
    """
    if repo is not None and private is not None and repo.private != private:
        is_now, wanted = ("private", "public") if repo.private else ("public", "private")
        raise ValueError(
            f"{repo_id} exists and is {is_now}, not {wanted}, so nothing was sent: change that in the repo's settings "
            f"on the Hub, or leave --{wanted} (private={private}) out to push to it as it is."
        )


def find_leftovers(repo: Repo | None, sent: Collection[str]) -> list[str]:
    """
    The files of an earlier push that this one does not write: of other weights, and wrong beside these.

    There are none unless the repo's card says that a push has written there. Then they are told by their names: those
    of the model's weights, this package's code, the handler and its requirements, the evaluation, pictures of a photo
    with its classes, and in folders with an export.json what an export writes. What else is there is not touched.

    Args:
        repo ([`Repo`], *optional*): The repo, if there is one.
        sent (`Collection[str]`): Names of the files that the push writes, folders with slashes.
    """
    if repo is None or not repo.is_pushed:
        return []
    files = set(repo.files)
    paths = [path for path in map(PurePosixPath, files) if len(path.parts) == 2]
    folders = {path.parent for path in paths if path.name == EXPORT_FILE}
    exports = {str(path) for path in paths if path.parent in folders and _OF_AN_EXPORT.fullmatch(path.name)}
    photo, classes = PICTURE_ENDINGS
    of_pictures = {name.removesuffix(classes) for name in files if re.fullmatch(rf"{PICTURES}/[^/]+{classes}", name)}
    pictures = {f"{stem}{ending}" for stem in of_pictures if f"{stem}{photo}" in files for ending in PICTURE_ENDINGS}
    owned = {name for name in files if _OWNED.fullmatch(name)}
    return sorted((owned | pictures | exports) - set(sent))
