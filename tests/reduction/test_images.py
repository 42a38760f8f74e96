"""Images: the formats written by other libraries and read back, templates, damaged files."""

import bz2
import gzip
import logging
from dataclasses import replace

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
from fabio.cbfimage import CbfImage
from fabio.tifimage import TifImage
from numpy.testing import assert_array_equal

from offbragg.errors import FormatError, MissingFileError
from offbragg.reduction.experiment import Scan
from offbragg.reduction.images import image_paths, open_images
from offbragg.reduction.panel_arrays import split_panels

SHAPE = (20, 30)  # slow, fast: of both panels of the made experiment


@pytest.fixture
def one_panel(experiment):
    """The made experiment with its first panel only."""
    return replace(experiment, detector=experiment.detector[:1])


@pytest.fixture
def counts():
    """Six images of one panel."""
    return np.random.default_rng(3).integers(0, 4000, (6, *SHAPE), dtype=np.int32)


def write_smv(path, data):
    header = (
        "{\nHEADER_BYTES=  512;\nDIM=2;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\n"
        f"SIZE1={data.shape[1]};\nSIZE2={data.shape[0]};\nPIXEL_SIZE=0.1;\n}}\n"
    )
    path.write_bytes(header.ljust(512).encode() + data.astype("<u2").tobytes())


def write_cbf(path, data):
    CbfImage(data=data).write(str(path))


def write_tiff(path, data):
    TifImage(data=data.astype(np.uint16)).write(str(path))


def write_stack(path, data, place="entry/data/data", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(place, data=data, **options)


def named(experiment, template):
    return replace(experiment, template=str(template))


# --- 1 reference numbers -------------------------------------------------


def test_digits_of_a_template(experiment, tmp_path):
    paths = image_paths(named(experiment, tmp_path / "run#1_###.img"))
    assert [path.name for path in paths[:2]] == ["run#1_011.img", "run#1_012.img"]
    wide = replace(experiment, scan=Scan((999, 1001), [0, 0, 0], [0, 0, 0]))
    names = [path.name for path in image_paths(named(wide, "/x/a_###.cbf.gz"))]
    assert names == ["a_999.cbf.gz", "a_1000.cbf.gz", "a_1001.cbf.gz"]


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("write", "ending"), [(write_smv, "img"), (write_cbf, "cbf"), (write_tiff, "tif")]
)
def test_one_file_an_image(write, ending, one_panel, counts, tmp_path):
    experiment = named(one_panel, tmp_path / f"made_####.{ending}")
    for number, data in zip(experiment.image_numbers, counts, strict=True):
        write(tmp_path / f"made_{number:04d}.{ending}", data)
    with open_images(experiment) as source:
        assert source.n_images == 6
        for index, data in enumerate(counts):
            (image,) = source.read(index)
            assert_array_equal(image, data)


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, "gz"), (bz2.compress, "bz2")])
@pytest.mark.parametrize(("write", "kind"), [(write_cbf, "cbf"), (write_tiff, "tif")])
def test_compressed_files(write, kind, pack, ending, one_panel, counts, tmp_path, capsys):
    one = replace(one_panel, scan=Scan((1, 1), [0.0], [0.0]))
    write(tmp_path / f"a.{kind}", counts[0])
    packed = tmp_path / f"a_1.{kind}.{ending}"
    packed.write_bytes(pack((tmp_path / f"a.{kind}").read_bytes()))
    with open_images(named(one, packed)) as source:
        assert_array_equal(source.read(0)[0], counts[0])
    assert capsys.readouterr().out == ""


def test_a_remark_of_fabio_on_smv_headers_is_not_passed_on(
    one_panel, counts, tmp_path, caplog, monkeypatch
):
    one = replace(one_panel, scan=Scan((1, 1), [0.0], [0.0]))
    path = tmp_path / "made_1.img"
    write_smv(path, counts[0])
    path.write_bytes(path.read_bytes().replace(b"}\n", b"  "))
    monkeypatch.setattr(logging.getLogger("fabio.dtrekimage"), "filters", [])
    fabio.open(str(path))
    assert "end of block" in caplog.text  # else there is nothing to test
    caplog.clear()
    with open_images(named(one, path)) as source:
        source.read(0)
    assert "end of block" not in caplog.text


@pytest.mark.parametrize("options", [{}, {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle()}])
def test_stacks(options, one_panel, counts, tmp_path):
    stack = np.concatenate([np.zeros((10, *SHAPE), np.int32), counts])
    write_stack(tmp_path / "made.h5", stack, **options)
    experiment = named(one_panel, tmp_path / "made.h5")
    with open_images(experiment) as source:  # images 11 to 16
        assert source.n_images == 6
        assert_array_equal(source.read(0)[0], counts[0])
        assert_array_equal(source.read(5)[0], counts[5])
    with open_images(replace(experiment, file_indices=(15, 14, 13, 12, 11, 10))) as source:
        assert_array_equal(source.read(0)[0], counts[5])


def test_stacks_of_several_panels(experiment, counts, tmp_path):
    stack = np.stack([counts, counts + 1], axis=1)
    write_stack(tmp_path / "made.nxs", stack)
    indexed = replace(named(experiment, tmp_path / "made.nxs"), file_indices=tuple(range(6)))
    with open_images(indexed) as source:
        first, second = source.read(4)
        assert_array_equal(first, counts[4])
        assert_array_equal(second, counts[4] + 1)


def test_stacks_linked_from_other_files(one_panel, counts, tmp_path):
    for part in (1, 2):
        data = counts[3 * part - 3 : 3 * part]
        write_stack(tmp_path / f"made_data_{part:06d}.h5", data, "entry/data/data")
    with h5py.File(tmp_path / "made_master.h5", "w") as file:
        for part in (1, 2):
            name = f"made_data_{part:06d}.h5"
            file[f"entry/data/data_{part:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
    experiment = named(one_panel, tmp_path / "made_master.h5")
    experiment = replace(experiment, file_indices=tuple(range(6)))
    with open_images(experiment) as source:
        for index in range(6):
            assert_array_equal(source.read(index)[0], counts[index])
    (tmp_path / "made_data_000002.h5").unlink()
    with pytest.raises(MissingFileError, match=r"made_data_000002\.h5: no such file, named by"):
        open_images(experiment)


def test_a_virtual_dataset_does_not_fill_in_zeros(one_panel, counts, tmp_path):
    write_stack(tmp_path / "part.h5", counts)
    layout = h5py.VirtualLayout(counts.shape, counts.dtype)
    layout[:] = h5py.VirtualSource("part.h5", "entry/data/data", shape=counts.shape)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout)
    experiment = named(one_panel, tmp_path / "whole.h5")
    experiment = replace(experiment, file_indices=tuple(range(6)))
    with open_images(experiment) as source:
        assert_array_equal(source.read(2)[0], counts[2])
    (tmp_path / "part.h5").unlink()
    with pytest.raises(MissingFileError, match=r"part\.h5: no such file, named by .*whole\.h5"):
        open_images(experiment)


# --- 3 exact limits ------------------------------------------------------


def test_panels_cut_from_one_image(experiment):
    whole = np.arange(60 * 50).reshape(60, 50)
    offsets = [(3, 5), (11, 30)]  # fast, slow
    panels = tuple(
        replace(panel, raw_image_offset=offset)
        for panel, offset in zip(experiment.detector, offsets, strict=True)
    )
    first, second = split_panels(whole, panels, "image")
    assert_array_equal(first, whole[5:25, 3:33])
    assert_array_equal(second, whole[30:50, 11:41])
    below = split_panels(whole[:40, :30], experiment.detector, "image")
    assert_array_equal(below[1], whole[20:40, :30])


def test_listed_images(one_panel, counts, tmp_path):
    names = [tmp_path / f"shot-{letter}.cbf" for letter in "abcdef"]
    for name, data in zip(names, counts, strict=True):
        write_cbf(name, data)
    listed = replace(
        one_panel, template=str(names[0]), image_files=tuple(str(name) for name in names)
    )
    with open_images(listed) as source:
        assert_array_equal(source.read(3)[0], counts[3])


# --- 5 errors ------------------------------------------------------------


def test_missing_images_are_counted(one_panel, counts, tmp_path):
    write_cbf(tmp_path / "made_0011.cbf", counts[0])
    with pytest.raises(MissingFileError, match=r"made_0012\.cbf: no such image \(and 4 more"):
        open_images(named(one_panel, tmp_path / "made_####.cbf"))
    with pytest.raises(MissingFileError, match=r"none\.h5: no such file"):
        open_images(named(one_panel, tmp_path / "none.h5"))


def test_an_experiment_without_images(one_panel):
    with pytest.raises(FormatError, match=r"imageset: expected a template or image names"):
        open_images(replace(one_panel, template=""))


def test_one_name_for_several_images(one_panel, tmp_path):
    with pytest.raises(FormatError, match="expected a template with # for the 6 images"):
        open_images(named(one_panel, tmp_path / "made.cbf"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an image"),
        (b"nonsense" * 100, "expected an image"),
        (b"###CBF: VERSION 1.5\n" + b"\xd5" * 100, "expected an image"),
    ],
)
def test_a_file_that_is_no_image(content, message, one_panel, tmp_path):
    path = tmp_path / "a_1.cbf"
    path.write_bytes(content)
    one = replace(one_panel, scan=Scan((1, 1), [0.0], [0.0]))
    with (
        open_images(named(one, path)) as source,
        pytest.raises(FormatError, match=message) as caught,
    ):
        source.read(0)
    assert "a_1.cbf" in str(caught.value)


def test_a_truncated_image(one_panel, counts, tmp_path):
    path = tmp_path / "a_1.img"
    write_smv(path, counts[0])
    path.write_bytes(path.read_bytes()[:900])
    one = replace(one_panel, scan=Scan((1, 1), [0.0], [0.0]))
    with (
        open_images(named(one, path)) as source,
        pytest.raises(FormatError, match=r"a_1\.img: expected an image"),
    ):
        source.read(0)


def test_an_image_of_another_size(one_panel, tmp_path):
    write_cbf(tmp_path / "a_1.cbf", np.zeros((7, 9), np.int32))
    one = replace(one_panel, scan=Scan((1, 1), [0.0], [0.0]))
    expected = r"a_1\.cbf: expected an image of \(20, 30\) \(slow, fast\), found \(7, 9\)"
    with (
        open_images(named(one, tmp_path / "a_1.cbf")) as source,
        pytest.raises(FormatError, match=expected),
    ):
        source.read(0)


def test_stacks_that_do_not_fit(one_panel, experiment, counts, tmp_path):
    path = tmp_path / "made.h5"
    write_stack(path, counts)
    with pytest.raises(FormatError, match=r"expected images 10 to 15 \(from 0\), found 6 images"):
        open_images(named(one_panel, path))
    indexed = replace(named(experiment, path), file_indices=tuple(range(6)))
    with pytest.raises(FormatError, match=r"expected an image of 2 panels of \(20, 30\)"):
        open_images(indexed)
    write_stack(path, counts, "entry/other/data")
    with pytest.raises(FormatError, match=r"expected images in /entry/data/data, found none"):
        open_images(named(one_panel, path))
    path.write_bytes(b"not hdf5")
    with pytest.raises(FormatError, match=r"made\.h5: expected HDF5"):
        open_images(named(one_panel, path))
