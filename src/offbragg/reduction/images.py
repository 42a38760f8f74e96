"""The pixels of an experiment: one file an image (SMV, CBF, TIFF, …) or HDF5 stacks (NXmx).

`open_images` looks at the names in an experiment, checks that the files are there, and gives a
source whose ``read(index)`` returns one array a panel. Sources may be read from several threads.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import fabio
import numpy as np
from fabio.fabioutils import BytesIO

from offbragg.errors import FormatError, MissingFileError
from offbragg.reduction.cbf_section import CBF_START, check_cbf
from offbragg.reduction.panel import Panel
from offbragg.reduction.panel_arrays import Pixels, split_panels
from offbragg.reduction.stacks import HDF5_SUFFIXES, StackedImages
from offbragg.reduction.sweep import Experiment

# What fabio lets out on damaged files, besides its own errors, which are among these.
READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
)


class UnreadableImageError(FormatError):
    """An image cannot be decoded: it is damaged, or not all written yet."""


class ImageSource(Protocol):
    """Images of one experiment, in the order of its scan; a context manager that closes them."""

    @property
    def n_images(self) -> int:
        """Number of images."""

    def read(self, index: int) -> tuple[Pixels, ...]:
        """Read image ``index``, from 0: an array (slow, fast) for each panel."""

    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        """Use as a context."""

    def __exit__(self, *error: object) -> None:
        """Close at the end of the context."""


def open_images(experiment: Experiment) -> ImageSource:
    """Open the images that an experiment names.

    A template with ``#`` stands for one file an image, its digits the image number; a name
    ending in ``.h5``, ``.nxs`` or the like for HDF5 with a dataset of images in the NeXus place
    (``/entry/data/data``, or ``data_000001`` and so on), of shape (n_images, slow, fast) or
    (n_images, n_panels, slow, fast); any other name for one file that fabio reads.

    Parameters
    ----------
    experiment : Experiment

    Returns
    -------
    ImageSource
        To be closed after use; a context manager.

    Raises
    ------
    MissingFileError
        If a file is not there; the message names the first and counts the rest.
    FormatError
        If an HDF5 file has no images, or too few, or of another shape than the detector's.
        Reading raises the same for single files.
    """
    return StackedImages(experiment) if is_stack(experiment) else SingleImages(experiment)


def is_stack(experiment: Experiment) -> bool:
    """Tell whether the images of an experiment are in HDF5, by their names.

    Raises
    ------
    FormatError
        If it names no images.
    """
    if not experiment.template:
        raise FormatError(
            f"{experiment.source or 'experiment'}: imageset: expected a template or image names, "
            "found none"
        )
    return not experiment.image_files and Path(experiment.template).suffix in HDF5_SUFFIXES


@contextmanager
def open_sweeps(
    experiments: Sequence[Experiment], numbers: Iterable[int]
) -> Iterator[Callable[[int, int], tuple[Pixels, ...]]]:
    """Open the images of some experiments, all at once; single images when it is their turn.

    Parameters
    ----------
    experiments : sequence of Experiment
    numbers : iterable of int
        Which of them, from 0.

    Yields
    ------
    callable
        ``read(number, image_index)`` gives an array (slow, fast) for each panel; threads may share
        it.
    """
    with ExitStack() as stack:
        sources = {
            number: stack.enter_context(open_images(experiments[number]))
            for number in sorted(set(numbers))
            if experiments[number].n_images > 1
        }

        def read(number: int, image_index: int) -> tuple[Pixels, ...]:
            if number in sources:
                return sources[number].read(image_index)
            with open_images(experiments[number]) as opened:
                return opened.read(image_index)

        yield read


class SingleImages(AbstractContextManager["SingleImages"]):
    """Images in files of their own, read by fabio."""

    def __init__(self, experiment: Experiment) -> None:
        self.panels = experiment.detector
        self.paths = image_paths(experiment)
        self.frames = frames_in_files(experiment)
        missing = [path for path in dict.fromkeys(self.paths) if not path.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more images)" if len(missing) > 1 else ""
            raise MissingFileError(f"{missing[0]}: no such image{more}")

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.paths)

    def read(self, index: int) -> tuple[Pixels, ...]:
        """Read image ``index``, from 0: an array (slow, fast) for each panel."""
        return read_single(self.paths[index], self.frames[index], self.panels)

    def close(self) -> None:
        """Nothing stays open."""

    def __exit__(self, *error: object) -> None:
        """Nothing stays open."""


def read_single(
    path: Path, frame: int, panels: tuple[Panel, ...], *, is_new: bool = False
) -> tuple[Pixels, ...]:
    """Read one image file: an array (slow, fast) for each panel.

    Parameters
    ----------
    path : Path
    frame : int
        Within the file, from 0, where it has several.
    panels : tuple of Panel
    is_new : bool
        Compare the checksum of a file that has one: it has just been written.

    Raises
    ------
    UnreadableImageError
        If it cannot be decoded.
    FormatError
        If it does not fit the panels.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(CBF_START)) == CBF_START:
                # fabio looks for the data of a CBF file without an end, should there be none.
                check_cbf(path.read_bytes(), digest=is_new)
        image = open_with_fabio(path)
        if image.nframes > 1:
            image = image.getframe(frame)
        data = np.asarray(image.data)
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableImageError(f"{path}: expected an image, {reason}") from None
    return split_panels(data, panels, str(path))


def open_with_fabio(path: Path, *, header_only: bool = False) -> Any:
    """Open an image file; compressed ones in memory (fabio prints a line for some of those)."""
    # SMV files without a trailing blank line draw a line of warning from fabio.
    logging.getLogger("fabio.dtrekimage").addFilter(_is_worth_saying)
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix)
    if unpack is None:
        return fabio.openheader(str(path)) if header_only else fabio.open(str(path))
    return fabio.open(BytesIO(unpack(path.read_bytes()), str(path.with_suffix(""))))


def frames_in_files(experiment: Experiment) -> tuple[int, ...]:
    """Where in its file each image is, from 0; the usual file has one."""
    return experiment.file_indices or (0,) * experiment.n_images


def image_paths(experiment: Experiment) -> tuple[Path, ...]:
    """Give the file of each image, by the digits in the template.

    Raises
    ------
    FormatError
        If there are several images, but one name without ``#``.
    """
    if experiment.image_files:
        return tuple(Path(name) for name in experiment.image_files)
    template = Path(experiment.template)
    digits = list(re.finditer("#+", template.name))
    if not digits:
        if experiment.n_images > 1 and experiment.file_indices is None:
            raise FormatError(
                f"{template}: expected a template with # for the {experiment.n_images} images"
            )
        return (template,) * experiment.n_images
    start, end = digits[-1].span()
    before, after = template.name[:start], template.name[end:]
    return tuple(
        template.with_name(f"{before}{number:0{end - start}d}{after}")
        for number in experiment.image_numbers.tolist()
    )


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Tell fabio's harmless remark on SMV headers from the rest."""
    return "end of block" not in record.getMessage()
