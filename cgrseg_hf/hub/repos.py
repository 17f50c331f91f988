# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a repo holds before a push, and what of that an earlier push has left there."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..export.settings import EXPORT_FILE
from .files import PICTURES, REPORT, REPORT_FILES

# Files that a push writes and nobody else has a reason to: weights in any number of parts, code, and an evaluation.
_WEIGHTS = r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
_CODE = r"(configuration|modeling|image_processing|optimized|post_processing)_(cgrseg|efficientformerv2)\.py"
_OTHERS = "|".join(map(re.escape, ("handler.py", "requirements.txt", REPORT, *REPORT_FILES)))
_OWNED = re.compile(f"{_WEIGHTS}|{_CODE}|{_OTHERS}")
# Of a photo on a card and of its classes.
PICTURE_ENDINGS = (".jpg", "-classes.jpg")


@dataclass(frozen=True)
class Repo:
    """
    A repo as it is before a push.

    Args:
        private (`bool`): Whether it is for its owner alone.
        files (`list[str]`): Names of the branch's files, folders with slashes.
    """

    private: bool
    files: list[str]


def look_up(api: HfApi, repo_id: str, branch: str | None = None) -> Repo | None:
    """A repo and the files of a branch, or those of `main`, of which a new branch is made; `None` if there is none."""
    try:
        try:
            info = api.model_info(repo_id, revision=branch)
        except RevisionNotFoundError:
            info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    return Repo(bool(info.private), [one.rfilename for one in info.siblings or ()])


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


def find_leftovers(files: Collection[str], sent: Collection[str]) -> list[str]:
    """
    The files that an earlier push has written and this one does not: of other weights, and wrong beside these.

    They are: the model's weights, this package's code, the handler, the evaluation, pictures of a photo with its
    classes, and folders of exports with all in them. What else is there is not touched.

    Args:
        files (`Collection[str]`): Names in the repo, folders with slashes.
        sent (`Collection[str]`): Those that the push writes.
    """
    exports = [
        f"{path.parent}/" for path in map(PurePosixPath, files) if path.name == EXPORT_FILE and len(path.parts) == 2
    ]
    photo, classes = PICTURE_ENDINGS
    of_pictures = {name.removesuffix(classes) for name in files if re.fullmatch(rf"{PICTURES}/[^/]+{classes}", name)}
    pictures = {f"{stem}{ending}" for stem in of_pictures if f"{stem}{photo}" in files for ending in PICTURE_ENDINGS}
    owned = [name for name in files if _OWNED.fullmatch(name) or name in pictures or name.startswith(tuple(exports))]
    return sorted(set(owned) - set(sent))
