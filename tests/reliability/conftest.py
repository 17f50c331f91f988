# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the reliability tests use."""

from collections.abc import Callable

import pytest
from evidence import Evidence


@pytest.fixture(scope="session")
def keep_evidence(request: pytest.FixtureRequest) -> Callable[[Evidence], None]:
    """Keep what a long run saw for RELIABILITY.md, if pytest was called with --keep-evidence; refuse a failed run."""

    def keep(evidence: Evidence) -> None:
        if request.config.getoption("--keep-evidence"):
            evidence.save()
        assert evidence.failures == 0, evidence.summary

    return keep
