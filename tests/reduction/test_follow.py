"""Images that are written while a map is made of them: waited for, or left out after a time."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fabio.cbfimage import CbfImage
from fabio.tifimage import TifImage
from numpy.testing import assert_array_equal

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction import arrivals, growing_geometry
from offbragg.reduction.growing_geometry import await_image_geometry
from offbragg.reduction.growing_stacks import GrowingStacks
from offbragg.reduction.image_tasks import draw_halves
from offbragg.reduction.images import UnreadableImageError, open_images
from offbragg.reduction.nxmx import create_nxmx
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import write_observations
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.stacks import open_growing

N_IMAGES = 6
SHAPE = (20, 30)
# [s]: where all images come, the time-out is never waited for and may be long.
TIME_OUT, PAUSE, LOOK_EVERY = 30.0, 0.03, 0.04
SEVERAL_LOOKS = 5 * LOOK_EVERY
PLAIN = {"d_min": 4.0, "bragg": "keep", "overload_margin": 0}
FOLLOW = MapOptions(**PLAIN, follow=TIME_OUT)
BRIEF = replace(FOLLOW, follow=0.25)  # where what is there from the start is all that comes
STACK = "entry/data/data"


@pytest.fixture(autouse=True)
def _looks_in_quick_succession(monkeypatch):
    monkeypatch.setattr(arrivals, "_LOOK_EVERY", LOOK_EVERY)
    monkeypatch.setattr(growing_geometry, "_LOOK_EVERY", LOOK_EVERY)


@pytest.fixture
def one_panel(experiment):
    """The made experiment with its first panel only; images 11 to 16."""
    return replace(experiment, detector=experiment.detector[:1])


@pytest.fixture
def counts():
    """Six images of one panel."""
    return np.random.default_rng(8).poisson(6.0, (N_IMAGES, *SHAPE)).astype(np.int32)


@pytest.fixture
def at_the_beamline():
    """Run a writer in a thread; what it raises fails the test."""
    threads, errors = [], []

    def start(work):
        def run():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - handed to the test
                errors.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    assert not errors


def write_cbf(path, data):
    CbfImage(data=data).write(str(path))


def write_tiff(path, data):
    TifImage(data=data.astype(np.uint16)).write(str(path))


def write_smv(path, data):
    header = (
        "{\nHEADER_BYTES=  512;\nDIM=2;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\n"
        f"SIZE1={data.shape[1]};\nSIZE2={data.shape[0]};\nPIXEL_SIZE=0.1;\n}}\n"
    )
    path.write_bytes(header.ljust(512).encode() + data.astype("<u2").tobytes())


def write_stack(path, data, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(STACK, data=data, **options)


def named(experiment, template):
    return replace(experiment, template=str(template))


def stacked(experiment, path):
    return replace(named(experiment, path), file_indices=tuple(range(N_IMAGES)))


def same(a, b):
    for name in ("intensity", "sigma", "count", "half_1", "half_2"):
        assert_array_equal(getattr(a, name), getattr(b, name))


def n_came(made: DiffuseMap):
    (images,) = made.provenance[0]["images"]
    return images["n_came"], images["n_images"]


# --- 2 independent oracle: the map of the same images, complete ------------


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize(
    ("write", "ending"), [(write_cbf, "cbf"), (write_tiff, "tif"), (write_smv, "img")]
)
def test_files_that_come_one_by_one(
    write, ending, n_workers, one_panel, counts, tmp_path, at_the_beamline
):
    folder = tmp_path / "later"  # not there either
    experiment = named(one_panel, folder / f"made_####.{ending}")
    numbers = experiment.image_numbers.tolist()

    def expose():
        folder.mkdir()
        for number, data in zip(numbers, counts, strict=True):
            time.sleep(PAUSE)
            write(folder / f"made_{number:04d}.{ending}", data)

    at_the_beamline(expose)
    followed = compute_map([experiment], replace(FOLLOW, n_workers=n_workers))
    same(followed, compute_map([experiment], MapOptions(**PLAIN)))
    assert n_came(followed) == (N_IMAGES, N_IMAGES)


def test_files_that_come_out_of_order(one_panel, counts, tmp_path, at_the_beamline):
    experiment = named(one_panel, tmp_path / "made_####.cbf")
    write_cbf(tmp_path / "made_0014.cbf", counts[3])

    def expose():
        for index in (5, 1, 0, 4, 2):
            time.sleep(PAUSE)
            write_cbf(tmp_path / f"made_{11 + index:04d}.cbf", counts[index])

    at_the_beamline(expose)
    followed = compute_map([experiment], FOLLOW)
    same(followed, compute_map([experiment], MapOptions(**PLAIN)))


@pytest.mark.parametrize(("write", "ending"), [(write_cbf, "cbf"), (write_smv, "img")])
def test_a_truncated_image_is_awaited(write, ending, one_panel, counts, tmp_path, at_the_beamline):
    experiment = named(one_panel, tmp_path / f"made_####.{ending}")
    paths = [tmp_path / f"made_{number:04d}.{ending}" for number in experiment.image_numbers]
    for path, data in zip(paths, counts, strict=True):
        write(path, data)
    whole, expected = paths[2].read_bytes(), compute_map([experiment], MapOptions(**PLAIN))
    paths[2].write_bytes(whole[:-300])  # and stays so for several looks

    def complete():
        time.sleep(SEVERAL_LOOKS)
        paths[2].write_bytes(whole)

    at_the_beamline(complete)
    same(compute_map([experiment], FOLLOW), expected)


def test_a_cbf_of_full_length_without_its_data_is_awaited(
    one_panel, counts, tmp_path, at_the_beamline
):
    one = replace(named(one_panel, tmp_path / "a_1.cbf"), file_indices=(0,) * N_IMAGES)
    write_cbf(tmp_path / "a_1.cbf", counts[0])
    whole, expected = (tmp_path / "a_1.cbf").read_bytes(), compute_map([one], MapOptions(**PLAIN))
    (tmp_path / "a_1.cbf").write_bytes(whole[:-500] + bytes(500))

    def complete():
        time.sleep(SEVERAL_LOOKS)
        (tmp_path / "a_1.cbf").write_bytes(whole)

    at_the_beamline(complete)
    same(compute_map([one], FOLLOW), expected)


def test_links_that_dangle_and_a_master_that_comes_late(
    one_panel, counts, tmp_path, at_the_beamline
):
    experiment = stacked(one_panel, tmp_path / "made_master.h5")

    def expose():
        time.sleep(PAUSE)
        with h5py.File(tmp_path / "made_master.h5", "w") as file:
            for part in (1, 2):
                name = f"made_data_{part:06d}.h5"
                file[f"entry/data/data_{part:06d}"] = h5py.ExternalLink(name, f"/{STACK}")
        for part in (2, 1):  # out of order: where the second begins is not known at first
            time.sleep(3 * PAUSE)
            write_stack(tmp_path / f"made_data_{part:06d}.h5", counts[3 * part - 3 : 3 * part])

    at_the_beamline(expose)
    followed = compute_map([experiment], FOLLOW)
    same(followed, compute_map([experiment], MapOptions(**PLAIN)))


@pytest.mark.parametrize("is_growing", [True, False])
def test_a_stack_that_is_opened_again_for_each_image(
    is_growing, one_panel, counts, tmp_path, at_the_beamline
):
    # Its writer must find the file free; no lock of ours may keep it out.
    path = tmp_path / "made.h5"
    shape = (0 if is_growing else N_IMAGES, *SHAPE)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            STACK, shape, np.int32, maxshape=(None, *SHAPE), chunks=(1, 7, 30), fillvalue=-1
        )
    write = (
        "import sys, time, h5py, numpy as np\n"
        "path, counts = sys.argv[1], np.load(sys.argv[2])\n"
        "for index, data in enumerate(counts):\n"
        "    for attempt in range(100):\n"
        "        try:\n"
        "            file = h5py.File(path, 'r+')\n"
        "            break\n"
        "        except OSError:\n"
        "            time.sleep(0.002)\n"
        "    with file:\n"
        "        dataset = file['entry/data/data']\n"
        "        dataset.resize(max(len(dataset), index + 1), axis=0)\n"
        "        dataset[index] = data\n"
        "        time.sleep(0.02)\n"
        "    time.sleep(0.02)\n"
    )
    np.save(tmp_path / "counts.npy", counts)
    at_the_beamline(
        lambda: subprocess.run(
            [sys.executable, "-c", write, path, tmp_path / "counts.npy"], check=True
        )
    )
    followed = compute_map([stacked(one_panel, path)], FOLLOW)
    same(followed, compute_map([stacked(one_panel, path)], MapOptions(**PLAIN)))


def test_swmr(one_panel, counts, tmp_path, at_the_beamline):
    path = tmp_path / "made.h5"
    write = (
        "import sys, time, h5py, numpy as np\n"
        "counts = np.load(sys.argv[2])\n"
        "file = h5py.File(sys.argv[1], 'w', libver='latest')\n"
        "shape = counts.shape[1:]\n"
        "dataset = file.create_dataset('entry/data/data', (0, *shape), counts.dtype,\n"
        "                              maxshape=(None, *shape), chunks=(1, *shape))\n"
        "file.swmr_mode = True\n"
        "for index, data in enumerate(counts):\n"
        "    time.sleep(0.03)\n"
        "    dataset.resize(index + 1, axis=0)\n"
        "    dataset[index] = data\n"
        "    dataset.flush()\n"
        "sys.stdin.readline()\n"  # not closed before the map is made
    )
    np.save(tmp_path / "counts.npy", counts)
    with subprocess.Popen(
        [sys.executable, "-c", write, path, tmp_path / "counts.npy"], stdin=subprocess.PIPE
    ) as writer:
        experiment = stacked(one_panel, path)
        followed = compute_map([experiment], FOLLOW)
        assert writer.poll() is None
        writer.communicate(b"\n")
    same(followed, compute_map([experiment], MapOptions(**PLAIN)))


def test_a_virtual_dataset(one_panel, counts, tmp_path, at_the_beamline):
    # Two writers take turns, and each has half of the rows in a file of its own besides.
    layout = h5py.VirtualLayout(counts.shape, counts.dtype)
    for turn in range(2):
        for rows in (slice(0, 10), slice(10, 20)):
            name = f"part_{turn}_{rows.start}.h5"
            layout[turn::2, rows] = h5py.VirtualSource(name, STACK, shape=(3, 10, 30))
    path = tmp_path / "whole.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(STACK, layout, fillvalue=0)

    def expose():
        for rows in (slice(0, 10), slice(10, 20)):
            for turn in range(2):
                time.sleep(PAUSE)
                write_stack(tmp_path / f"part_{turn}_{rows.start}.h5", counts[turn::2, rows])

    at_the_beamline(expose)
    followed = compute_map([stacked(one_panel, path)], FOLLOW)
    same(followed, compute_map([stacked(one_panel, path)], MapOptions(**PLAIN)))


def test_observations(one_panel, counts, tmp_path, at_the_beamline):
    experiment = named(one_panel, tmp_path / "made_####.cbf")

    def expose():
        for number, data in zip(experiment.image_numbers, counts, strict=True):
            write_cbf(tmp_path / f"made_{number:04d}.cbf", data)
            time.sleep(PAUSE)

    at_the_beamline(expose)
    write_observations([experiment], FOLLOW, tmp_path / "followed.h5")
    write_observations([experiment], MapOptions(**PLAIN), tmp_path / "plain.h5")
    followed, plain = (read_observations(tmp_path / f"{n}.h5") for n in ("followed", "plain"))
    for name in ("voxel", "wedge", "intensity", "variance"):
        assert_array_equal(followed.columns[name], plain.columns[name])


# --- 3 exact limits: some never come ---------------------------------------


@pytest.mark.parametrize("lost", [(5,), (1, 2), (0, 3)])
def test_the_map_is_of_the_images_that_came(lost, one_panel, counts, tmp_path, caplog):
    experiment = named(one_panel, tmp_path / "made_####.cbf")
    for index, data in enumerate(counts):
        if index not in lost:
            write_cbf(tmp_path / f"made_{11 + index:04d}.cbf", data)
    followed = compute_map([experiment], BRIEF)
    n = N_IMAGES - len(lost)
    assert n_came(followed) == (n, N_IMAGES)
    assert f"{n} of 6 images came, then nothing new for 0.25 s" in caplog.text
    assert f"made_{11 + lost[0]:04d}.cbf: no such file" in caplog.text
    # Oracle: the complete images, those that are lost left out by a flux of 0.
    for index in lost:
        write_cbf(tmp_path / f"made_{11 + index:04d}.cbf", counts[index])
    flux = np.ones(N_IMAGES)
    flux[list(lost)] = 0
    np.save(tmp_path / "flux.npy", flux)
    expected = compute_map([experiment], MapOptions(**PLAIN, flux=str(tmp_path / "flux.npy")))
    same(followed, expected)


def test_frames_that_are_not_written_are_not_taken(one_panel, counts, tmp_path):
    path = tmp_path / "made.h5"
    for chunks in ((1, 10, 30), (2, 20, 30), None):
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset(STACK, counts.shape, counts.dtype, chunks=chunks)
            for index in (0, 1, 2, 5):
                dataset[index] = counts[index]
            if chunks is not None:
                dataset[3, :10] = counts[3, :10] if chunks[0] == 1 else 0  # half of its chunks
        assert n_came(compute_map([stacked(one_panel, path)], BRIEF)) == (4, N_IMAGES), chunks


def test_wedges_of_lost_images_have_no_observations(one_panel, counts, tmp_path, caplog):
    experiment = named(one_panel, tmp_path / "made_####.cbf")
    for index in (0, 2, 3, 5):
        write_cbf(tmp_path / f"made_{11 + index:04d}.cbf", counts[index])
    options = replace(BRIEF, wedge=0.5)  # an image each
    write_observations([experiment], options, tmp_path / "observations.h5")
    found = read_observations(tmp_path / "observations.h5")
    assert set(found.wedges.first_image[np.unique(found.columns["wedge"])].tolist()) == {0, 2, 3, 5}
    assert "4 of 6 images came" in caplog.text


def test_images_of_one_half_alone_make_no_half_maps(one_panel, counts, tmp_path, caplog):
    experiment = named(one_panel, tmp_path / "made_####.cbf")
    halves = {0: [], 1: []}
    for index, half in enumerate(draw_halves(N_IMAGES, np.random.default_rng(0))):
        halves[half].append(index)
    for index in halves[0]:
        write_cbf(tmp_path / f"made_{11 + index:04d}.cbf", counts[index])
    followed = compute_map([experiment], BRIEF)
    assert followed.half_1 is followed.half_2 is None
    assert "no half maps: all 3 images are of one half" in caplog.text


# --- 5 errors ------------------------------------------------------------


def test_no_image_at_all(one_panel, tmp_path):
    start = time.monotonic()
    expected = r"no image of 6 came within 0\.25 s; the first: .*made_0011\.cbf: no such file"
    with pytest.raises(MissingFileError, match=expected):
        compute_map([named(one_panel, tmp_path / "made_####.cbf")], BRIEF)
    assert time.monotonic() - start >= 0.25
    with pytest.raises(MissingFileError, match=r"the first: .*made\.h5: no such file"):
        compute_map([stacked(one_panel, tmp_path / "made.h5")], BRIEF)
    with pytest.raises(MissingFileError, match=r"no image of 6"):
        write_observations(
            [named(one_panel, tmp_path / "made_####.cbf")], BRIEF, tmp_path / "observations.h5"
        )
    assert not (tmp_path / "observations.h5").exists()


def test_a_file_that_is_held_by_its_writer(tmp_path):
    hold = (
        "import sys, h5py\nfile = h5py.File(sys.argv[1], 'w')\nprint('held', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / "a.h5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        writer.stdout.readline()
        with pytest.raises(OSError, match="unable to lock file"):
            open_growing(tmp_path / "a.h5")
        writer.communicate(b"\n")
    open_growing(tmp_path / "a.h5").close()


def test_an_image_of_another_shape_ends_the_waiting(one_panel, tmp_path):
    experiment = named(one_panel, tmp_path / "made_####.cbf")
    write_cbf(tmp_path / "made_0011.cbf", np.zeros((7, 9), np.int32))
    start = time.monotonic()
    with pytest.raises(FormatError, match=r"expected an image of \(20, 30\)"):
        compute_map([experiment], FOLLOW)
    assert time.monotonic() - start < 10.0


def test_a_part_that_grows_after_the_next_has_begun(one_panel, counts, tmp_path):
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        for part in (1, 2):
            name = f"entry/data/data_{part:06d}"
            file.create_dataset(name, data=counts[:2], maxshape=(None, *SHAPE), chunks=(1, *SHAPE))
    stacks = GrowingStacks({0: stacked(one_panel, path)})
    assert stacks.look()
    assert [stacks.is_there(0, index) for index in range(5)] == [True, True, False, False, False]
    assert stacks.look()  # the first part has not grown: the second begins after it
    assert [stacks.is_there(0, index) for index in range(5)] == [True, True, True, True, False]
    stacks.close()
    with h5py.File(path, "r+") as file:
        file["entry/data/data_000001"].resize(3, axis=0)
    with pytest.raises(FormatError, match=r"part 1: expected 2 images, .* found 3"):
        stacks.look()
    stacks.close()


def test_a_cbf_without_data_is_refused_at_once(one_panel, counts, tmp_path):
    path = tmp_path / "a_1.cbf"
    write_cbf(path, counts[0])
    path.write_bytes(path.read_bytes()[:200])  # fabio would look for the data for ever
    with (
        open_images(replace(named(one_panel, path), file_indices=(0,) * N_IMAGES)) as source,
        pytest.raises(UnreadableImageError, match=r"a_1\.cbf: expected an image, .*found none"),
    ):
        source.read(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"follow": 0.0}, "follow must be > 0 s, got 0.0"),
        ({"follow": np.nan}, "follow must be > 0 s, got nan"),
        ({"follow": 5.0, "hot_pixels": True}, "follow cannot go with hot_pixels"),
    ],
)
def test_options(options, message):
    with pytest.raises(InputError, match=message):
        MapOptions(**PLAIN, **options)


# --- the geometry of a master file -----------------------------------------


def test_a_master_file_is_awaited_for_its_geometry(one_panel, tmp_path, at_the_beamline):
    def write():
        time.sleep(2 * PAUSE)
        with create_nxmx(tmp_path / "made.h5", one_panel, np.int32):
            pass

    at_the_beamline(write)
    geometry = await_image_geometry(tmp_path / "made.h5", TIME_OUT)
    assert geometry.scan.n_images == N_IMAGES
    with pytest.raises(MissingFileError, match=r"none\.h5: no such file"):
        await_image_geometry(tmp_path / "none.h5", 0.1)
    with pytest.raises(InputError, match=r"follow needs the number of images .*a_####"):
        await_image_geometry(tmp_path / "a_####.cbf", 0.1)
