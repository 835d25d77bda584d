"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real CT data; it lies beside the repository and is never part of it."""
    folder = Path(os.environ.get("OVCF_TEST_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real data at {folder} (set OVCF_TEST_DATA)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
