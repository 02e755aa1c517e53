"""A data folder that another test session cannot take away: pytest closes its own temporary folder to all but the
account that runs it, whenever a session begins, and the embedded server of root runs as another."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="voltstream-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"
