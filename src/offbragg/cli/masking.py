"""The command `mask`: what a map leaves out on all images, as a file and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.errors import InputError, MissingFileError
from offbragg.maps.io import replace_when_done
from offbragg.plotting.masks import draw_mask
from offbragg.reduction.detector_mask import write_mask
from offbragg.reduction.experiment import Experiment, read_experiments
from offbragg.reduction.images import open_images
from offbragg.reduction.options import MaskOptions
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.photons import compute_mask, untrusted_pixels


def mask(
    *expt: Path,
    output: Output,
    options: Annotated[MaskOptions | None, Parameter(name="*")] = None,
    common: Common | None = None,
) -> Outcome:
    """Write the pixels that a map leaves out on all images, as a file and as a picture.

    Parameters
    ----------
    expt
        DIALS experiment lists.
    output
        Name of both files, .npy (which ``map --mask`` reads) and .png.
    """
    if not expt:
        raise InputError("mask needs at least one .expt file")
    if output.suffix not in (".npy", ".png"):
        raise InputError(f"--output must end in .npy or .png, got {output.name}")
    choice = options or MaskOptions()
    experiments = [e for path in expt for e in read_experiments(path, choice.images)]
    with BarProgress() as progress:
        found = compute_mask(experiments, choice, progress)
    reasons = dict(found.reasons)
    image = _first_image(experiments[0])
    if image is not None:
        reasons["values of the first image"] = untrusted_pixels(image, found.detector, choice)
    paths = {"mask": output.with_suffix(".npy"), "picture": output.with_suffix(".png")}
    with replace_when_done(paths["mask"]) as temporary:
        write_mask(temporary, found)
    with replace_when_done(paths["picture"]) as temporary:
        draw_mask(reasons, image).savefig(temporary, format="png", dpi=150)
    n_excluded = sum(int(part.sum()) for part in found.excluded)
    n_pixels = sum(part.size for part in found.excluded)
    result = {"n_pixels": n_pixels, "n_excluded": n_excluded, "reasons": found.counts}
    rows = [*found.counts.items(), ("all", n_excluded), ("of", n_pixels)]
    return Outcome(result, paths, "", [("", ("excluded", "pixels"), rows)])


def _first_image(experiment: Experiment) -> tuple[Pixels, ...] | None:
    """The first image, to draw; None where it is not there: a mask does not need it."""
    try:
        with open_images(experiment) as source:
            return source.read(0)
    except MissingFileError:
        return None
