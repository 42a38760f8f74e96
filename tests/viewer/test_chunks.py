"""Voxels read chunk by chunk are those of the file, however it is laid out."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbragg.errors import FormatError
from offbragg.viewer.chunks import ArrayVoxels, ChunkedVoxels

LAYOUTS = {
    "as maps are written": {"chunks": (4, 3, 5), "compression": "gzip", "shuffle": True},
    "gzip alone": {"chunks": (4, 3, 5), "compression": "gzip"},
    "packed otherwise": {"chunks": (4, 3, 5), "compression": "lzf"},
    "in chunks, not packed": {"chunks": (4, 3, 5)},
    "in one piece": {},
}


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def stored(file, values, **layout):
    return file.create_dataset("x", data=values, **layout)


def memory_file():
    return h5py.File("x", "w", driver="core", backing_store=False)


def some(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).normal(0, 100, shape)
    return values.astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, ">f4"])
def test_sections_points_and_blocks_are_the_arrays(pool, layout, dtype):
    values = some((9, 7, 11), dtype)
    values[2, 3, 4] = 7 if np.dtype(dtype).kind == "i" else np.nan
    with memory_file() as file:
        voxels = ChunkedVoxels(stored(file, values, **LAYOUTS[layout]), pool)
        assert voxels.shape == values.shape
        for axis in range(3):
            for index in (0, values.shape[axis] - 1, values.shape[axis] // 2):
                expected = np.take(values, index, axis).astype(np.float32)
                np.testing.assert_array_equal(voxels.section(axis, index), expected)
        index = np.argwhere(np.ones(values.shape, dtype=bool))[::-3]
        np.testing.assert_array_equal(voxels.at(index), values[tuple(index.T)].astype(np.float32))
        whole = np.full(values.shape, -1, dtype=np.float32)
        for first, block in voxels.blocks():
            place = tuple(slice(a, a + n) for a, n in zip(first, block.shape, strict=True))
            whole[place] = block
        np.testing.assert_array_equal(whole, values.astype(np.float32))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    chunks=st.tuples(*[st.integers(1, 5)] * 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_any_shape_in_any_chunks(shape, chunks, seed):
    values = some(shape, seed=seed)
    edges = tuple(min(a, b) for a, b in zip(shape, chunks, strict=True))
    with memory_file() as file, ThreadPoolExecutor(1) as threads:
        dataset = stored(file, values, chunks=edges, compression="gzip", shuffle=True)
        voxels = ChunkedVoxels(dataset, threads)
        axis, index = seed % 3, shape[seed % 3] // 2
        np.testing.assert_array_equal(voxels.section(axis, index), np.take(values, index, axis))


def test_chunks_that_were_never_written_are_the_fill_value(pool):
    with memory_file() as file:
        dataset = file.create_dataset(
            "x", (8, 8, 8), "f4", chunks=(4, 4, 4), compression="gzip", shuffle=True,
            fillvalue=np.nan,
        )  # fmt: skip
        dataset[:4, :4, :4] = 1
        section = ChunkedVoxels(dataset, pool).section(2, 1)
    assert np.nansum(section) == 16
    assert np.isnan(section[5, 5])


def test_what_is_kept_stays_within_its_budget_and_is_not_read_again(monkeypatch):
    values = some((64, 8, 8))
    with memory_file() as file, ThreadPoolExecutor(1) as threads:
        dataset = stored(file, values, chunks=(4, 4, 4), compression="gzip", shuffle=True)
        voxels = ChunkedVoxels(dataset, threads, budget=12 * values[:4, :4, :4].nbytes)
        reads = []
        read = voxels._read
        monkeypatch.setattr(voxels, "_read", lambda name: reads.append(name) or read(name))
        for index in (0, 0, 1):  # one slab of four chunks; turning on begins the one further on
            voxels.section(0, index)
        voxels.section(0, 8)
        assert len(voxels._kept) <= 12
        threads.submit(int).result()
        slabs = {name[0] for name in reads}
        assert slabs == {0, 2, 4}
        assert len(reads) == 12
        voxels.section(0, 16)  # there already
        threads.submit(int).result()
        assert {name[0] for name in reads} == {0, 2, 4, 6}
        voxels.section(0, 1)  # it had to make room
        assert len([name for name in reads if name[0] == 0]) == 8


def test_a_damaged_chunk_is_named_and_others_are_read(tmp_path, pool):
    path = tmp_path / "m.h5"
    values = some((8, 4, 4))
    with h5py.File(path, "w") as file:
        dataset = stored(file, values, **LAYOUTS["as maps are written"] | {"chunks": (4, 4, 4)})
        place = dataset.id.get_chunk_info_by_coord((4, 0, 0))
    with path.open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    with h5py.File(path) as file:
        voxels = ChunkedVoxels(file["x"], pool)
        with pytest.raises(FormatError, match=r"m\.h5: /x: chunk \(1, 0, 0\) is damaged: "):
            voxels.section(0, 5)
        np.testing.assert_array_equal(voxels.section(0, 1), values[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_points_have_no_values(pool, layout):
    with memory_file() as file:
        voxels = ChunkedVoxels(stored(file, some((9, 7, 11)), **LAYOUTS[layout]), pool)
        assert voxels.at(np.zeros((0, 3), dtype=np.int64)).shape == (0,)


def test_an_array_in_memory_does_the_same():
    values = some((3, 4, 5), np.float64)
    voxels = ArrayVoxels(values)
    np.testing.assert_array_equal(voxels.section(1, 2), values[:, 2].astype(np.float32))
    np.testing.assert_array_equal(
        voxels.at(np.array([[2, 3, 4], [0, 0, 0]])),
        values[[2, 0], [3, 0], [4, 0]].astype(np.float32),
    )
    assert sum(block.size for _, block in voxels.blocks()) == values.size
