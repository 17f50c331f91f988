# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Load models, and compare what the Hugging Face Hub sends with its checksums: downloads alone compare lengths.

Heavy packages are imported when they are needed.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.messages import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def load_model(source: str | os.PathLike, **settings: Any) -> "PreTrainedModel":
    """
    Call `AutoModelForSemanticSegmentation.from_pretrained` with [`checked_downloads`].

    Args:
        source (`str` or `os.PathLike`): A folder, or the id of a model on the Hub.
        settings: Passed on.

    Raises:
        ValueError: If what the Hub sent is damaged. Other errors are those of `from_pretrained`.
    """
    from transformers import AutoModelForSemanticSegmentation

    is_folder = Path(source).is_dir()
    with contextlib.nullcontext() if is_folder else checked_downloads(os.fspath(source), settings.get("revision")):
        return AutoModelForSemanticSegmentation.from_pretrained(source, **settings)


@contextlib.contextmanager
def checked_downloads(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """
    Compare a model's files with the checksums of the Hub, if the block has fetched any.

    What was fetched before is not compared again, and needs no connection.

    Args:
        repo_id (`str`): Id of a model on the Hub.
        revision (`str`, *optional*): The commit that the block fetches, by default that of `main`.

    Raises:
        ValueError: If a file is damaged; it is removed from the cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshots = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "snapshots")
    kept = set(snapshots.rglob("*"))
    try:
        yield
    finally:  # an error in the block may come from a damaged file too, which the next try has to fetch again
        if set(snapshots.rglob("*")) - kept:
            _refuse_damaged(repo_id, revision)


def _refuse_damaged(repo_id: str, revision: str | None) -> None:
    from huggingface_hub import HfApi, constants

    try:
        found = HfApi().verify_repo_checksums(repo_id, revision=revision)
    except Exception as error:  # a mirror without checksums; each client of huggingface_hub has errors of its own
        logger.warning("The files of %s could not be compared with the Hub's checksums: %s", repo_id, one_line(error))
        return
    for mismatch in found.mismatches:
        file = found.verified_path / mismatch["path"]
        file.resolve().unlink(missing_ok=True)  # the content, to which the file is a link
        file.unlink(missing_ok=True)
    if found.mismatches:
        raise ValueError(
            f"What the Hugging Face Hub ({constants.ENDPOINT}) sent of {repo_id} is damaged: its checksum is not the "
            "one that the Hub announced. It was removed from the cache: try again."
        )
