"""Real data beside the repository: `../shared/data`."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Path of the real data; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data")
    return SHARED_DATA
