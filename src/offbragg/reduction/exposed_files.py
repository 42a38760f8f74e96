"""The files that exposed images go to: their names, their pixels, and one file or many."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from offbragg.errors import InputError
from offbragg.reduction.cbf_writer import create_mini_cbf, files_of
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.nxmx import create_nxmx

#: Formats of images, with the endings of their files.
SUFFIXES = {"nxmx": ".h5", "cbf": "_#####.cbf"}


def output_names(
    out_dir: Path, n_experiments: int, image_format: str, *, overwrite: bool
) -> tuple[Path, tuple[Path, ...]]:
    """Paths of the experiment list and the images, a file or a template with ``#`` for each.

    Raises
    ------
    InputError
        If there are such files already and they are not to be replaced.
    """
    numbers = [""] if n_experiments == 1 else [f"_{n + 1}" for n in range(n_experiments)]
    images = tuple(out_dir / f"exposed{number}{SUFFIXES[image_format]}" for number in numbers)
    target = out_dir / "exposed.expt"
    there = [path for path in (target, *images) if path.exists()]
    there += [path for image in images for path in files_of(image)]
    if there and not overwrite:
        raise InputError(f"{there[0]}: exists; choose another folder, or overwrite")
    return target, images


def create_images(
    path: Path,
    experiment: Experiment,
    dtype: DTypeLike,
    provenance: Mapping[str, str | float],
    image_format: str,
) -> AbstractContextManager[Any]:
    """Create the files of an experiment, to be filled by ``images[index] = array``."""
    if image_format == "cbf":
        return create_mini_cbf(path, experiment, provenance)
    return create_nxmx(path, experiment, dtype, provenance)


def pixel_type(brightest: float, image_format: str, *, noise: bool) -> np.dtype[np.generic]:
    """Choose the smallest type that holds counts of an expectation, 10 standard deviations on.

    Raises
    ------
    InputError
        If the format's largest type does not.
    """
    if not noise:
        return np.dtype(np.float32)
    highest = brightest + 10.0 * np.sqrt(brightest) + 20.0
    for kind in (np.int32,) if image_format == "cbf" else (np.uint16, np.uint32):
        if highest < largest_trusted(kind):
            return np.dtype(kind)
    bits = 31 if image_format == "cbf" else 32
    raise InputError(f"photons must give counts below 2^{bits}, got {brightest:.3g} in a pixel")


def largest_trusted(dtype: DTypeLike) -> float:
    """Largest good value: the last number of a detector's type often marks pixels without data."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return float(np.finfo(np.float32).max)
    return float(np.iinfo(kind).max - 1)


def as_made(experiment: Experiment, template: str, dtype: DTypeLike) -> Experiment:
    """Describe the images made: numbered from 1, by an ideal counter, in one file or many."""
    n_images = experiment.n_images
    trusted = (-1.0, largest_trusted(dtype))
    panels = tuple(
        replace(panel, gain=1.0, pedestal=0.0, trusted_range=trusted, raw_image_offset=None)
        for panel in experiment.detector
    )
    return replace(
        experiment,
        detector=panels,
        scan=replace(experiment.scan, image_range=(1, n_images)),
        template=template,
        image_files=(),
        file_indices=None if "#" in template else tuple(range(n_images)),
        source="",
    )
