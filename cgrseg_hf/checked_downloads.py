# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of the Hugging Face Hub against its checksums: huggingface_hub compares their lengths alone."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from .provenance import digest_file

_SHA256 = re.compile(r"[0-9a-f]{64}")


@contextlib.contextmanager
def checked_downloads(source: str | os.PathLike) -> Iterator[None]:
    """
    Have what is fetched of a model compared with the checksums that the Hub announced for it.

    These are the names of the large files in the cache, such as weights: their SHA-256. Only files that are new after
    the block are read, so that a model that was fetched before loads as fast as ever. Where the file system has no
    symbolic links the cache does not keep checksums, and nothing is compared.

    Args:
        source (`str` or `os.PathLike`): Id of a model on the Hub; of a folder nothing is fetched.

    Raises:
        ValueError: If a file is not what was announced; it is taken out of the cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = os.fspath(source)
    if Path(name).is_dir():
        yield
        return
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"), "blobs")
    kept = set(blobs.glob("*"))
    try:
        yield
    finally:  # also where loading failed: then it says why, and the next try fetches the file anew
        damaged = [file for file in sorted({*blobs.glob("*")} - kept) if _is_damaged(file)]
        for file in damaged:
            file.unlink()
        if damaged:
            raise ValueError(
                f"What the Hugging Face Hub ({constants.ENDPOINT}) sent of {name} is damaged: its checksum is not the "
                "one that the Hub announced. It was taken out of the cache: try again."
            )


def _is_damaged(file: Path) -> bool:
    return _SHA256.fullmatch(file.name) is not None and digest_file(file) != file.name
