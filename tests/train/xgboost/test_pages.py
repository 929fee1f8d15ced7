"""Large pages: memory that is taken already is moved into them whole, keeps what it holds, and does not grow."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from mlflow_core.train.xgboost import pages
from mlflow_core.train.xgboost.pages import BLOCK, collapse, resident

needs_large_pages = pytest.mark.skipif(
    not pages._WANTED.exists() or "[never]" in pages._WANTED.read_text(), reason="there are no large pages"
)
SIZE = 24 * BLOCK


def _in_large_pages() -> int:
    """Bytes of this process that are in large pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])


def _allocated() -> np.ndarray:
    """Memory as XGBoost takes it: numpy itself asks for large pages."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    return np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_address(library.malloc(ctypes.c_size_t(SIZE))))


@needs_large_pages
def test_what_was_filled_since_is_found_and_moved_as_it_is() -> None:
    before, there = resident(), _in_large_pages()
    array = _allocated()
    array[:] = np.arange(SIZE) % 251

    since = np.setdiff1d(resident(), before)
    moved = collapse(since)

    assert len(since) * BLOCK >= SIZE - 2 * BLOCK
    if not moved:
        pytest.skip("the system has no large pages to give, or is older than Linux 6.1")
    assert moved <= len(since) * BLOCK
    assert _in_large_pages() - there >= SIZE - 2 * BLOCK
    np.testing.assert_array_equal(array, np.arange(SIZE) % 251)


@needs_large_pages
def test_blocks_with_a_page_that_is_not_there_are_left_alone() -> None:
    before, array = resident(), _allocated()
    array[::BLOCK] = 1  # one page of each block

    assert not len(np.setdiff1d(resident(), before))


def test_few_blocks_are_not_worth_the_move_and_none_are_no_error() -> None:
    assert collapse(np.empty(0, dtype=np.int64)) == 0
    assert collapse(np.array([0, 5 * BLOCK])) == 0


@pytest.mark.parametrize("says", ["always madvise [never]", None])
def test_a_system_that_forbids_them_or_has_none_is_not_asked(
    says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if says is not None:
        (tmp_path / "enabled").write_text(says)
    monkeypatch.setattr(pages, "_WANTED", tmp_path / "enabled")
    array = _allocated()
    array[:] = 1

    assert not len(resident())
