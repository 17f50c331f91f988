# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Loading of models, with what the Hugging Face Hub sends compared with its checksums.

huggingface_hub compares lengths alone. Heavy packages are imported when they are needed.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.provenance import digest_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHA256 = re.compile(r"[0-9a-f]{64}")


def load_model(source: str | os.PathLike, **settings: Any) -> "PreTrainedModel":
    """
    `AutoModelForSemanticSegmentation.from_pretrained`, with [`checked_downloads`].

    Args:
        source (`str` or `os.PathLike`): A folder, or the id of a model on the Hub.
        settings: Passed on.

    Raises:
        ValueError: If what the Hub sent is damaged; what `from_pretrained` raises besides.
    """
    from transformers import AutoModelForSemanticSegmentation

    with contextlib.nullcontext() if Path(source).is_dir() else checked_downloads(os.fspath(source)):
        return AutoModelForSemanticSegmentation.from_pretrained(source, **settings)


@contextlib.contextmanager
def checked_downloads(repo_id: str) -> Iterator[None]:
    """
    Have what a block fetches of a model compared with the checksums that the Hub announced for it.

    These are the names of the large files in the cache, such as weights: their SHA-256. Only files that are new after
    the block are read, so that what was fetched before is there as fast as ever; what another process is fetching at
    the same time is for that process to compare. Nothing is compared where the file system has no symbolic links, since
    the cache then keeps no checksums, nor of a mirror whose tags are none.

    Args:
        repo_id (`str`): Id of a model on the Hub.

    Raises:
        ValueError: If a file is not what was announced; it is taken out of the cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "blobs")
    kept = set(blobs.glob("*"))
    try:
        yield
    except Exception:  # perhaps for this very reason; the next try is to fetch the file anew
        _refuse_damaged(set(blobs.glob("*")) - kept, repo_id)
        raise
    _refuse_damaged(set(blobs.glob("*")) - kept, repo_id)


def _refuse_damaged(files: set[Path], repo_id: str) -> None:
    from huggingface_hub import constants

    damaged = [file for file in files if _is_damaged(file)]
    for file in damaged:
        file.resolve().unlink(missing_ok=True)  # it may be a link to a store that all repositories share
        file.unlink(missing_ok=True)
    if damaged:
        raise ValueError(
            f"What the Hugging Face Hub ({constants.ENDPOINT}) sent of {repo_id} is damaged: its checksum is not the "
            "one that the Hub announced. It was taken out of the cache: try again."
        )


def _is_damaged(file: Path) -> bool:
    try:
        return _SHA256.fullmatch(file.name) is not None and digest_file(file) != file.name
    except FileNotFoundError:  # another process takes it away, or puts it elsewhere
        return False
