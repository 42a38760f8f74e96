"""`MapOptions` and `MaskOptions`: every option of the commands `map` and `mask` is a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from offbragg.crystal.friedel import check_friedel
from offbragg.errors import InputError
from offbragg.reduction.bragg_mask import RADIUS_UNITS
from offbragg.reduction.chips import check_chips
from offbragg.reduction.corrections import PIXEL_CORRECTIONS
from offbragg.reduction.image_filter import FILTERS, check_window
from offbragg.reduction.mask_shapes import parse_ring
from offbragg.reduction.voxelize import Oversampling

#: Everything that counts are corrected for, where the experiment or a file has what it takes.
CORRECTIONS = (*PIXEL_CORRECTIONS, "parallax", "dark", "flat-field", "exposure", "flux")
#: What can be done about Bragg peaks.
BRAGG = ("exclude", "keep", "only", "detect", *FILTERS)


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Which pixels are left out.

    Attributes
    ----------
    images : str or None
        Where the images are, if not where the experiments say: template, file or folder.
    mask : str or None
        File of pixels to exclude.
    mask_shapes : str or None
        File of rectangles, circles and polygons to exclude, JSON or text.
    mask_rings : tuple of str
        Ranges of resolution to exclude, such as 3.93-3.87 [Å].
    hot_pixels : bool
        Find hot and dead pixels from a hundred of the images and exclude them. Off by default:
        those images are read twice, and what a map leaves out should be asked for.
    overload : float or None
        Values above it are overloads [ADU]; None: the experiment's trusted range says.
    overload_margin : int
        Pixels within this distance of an overload are excluded too.

    Raises
    ------
    InputError
        If a value is not among those above.
    """

    images: str | None = None
    mask: str | None = None
    mask_shapes: str | None = None
    mask_rings: tuple[str, ...] = ()
    hot_pixels: bool = False
    overload: float | None = None
    overload_margin: int = 2

    def __post_init__(self) -> None:
        for text in self.mask_rings:
            parse_ring(text)
        if self.overload is not None and not self.overload > 0:
            raise InputError(f"overload must be > 0, got {self.overload}")
        if self.overload_margin < 0:
            raise InputError(f"overload_margin must be >= 0 pixels, got {self.overload_margin}")


@dataclass(frozen=True)
class MapOptions(MaskOptions):
    """How images become a map.

    Attributes
    ----------
    d_min : float
        Resolution limit [Å].
    sampling : tuple of 3 int
        Voxels per reciprocal-lattice unit along h, k, l.
    stills : bool
        Take each image at its middle angle: the crystal did not turn during the exposure.
    still_sweeps : tuple of int
        Numbers of the sweeps, from 0, that are stills, where only some are.
    bragg : str
        ``"exclude"`` leaves out pixels near Bragg nodes, ``"keep"`` keeps all, ``"only"`` leaves
        out the others: a map of the peaks. Where nodes do not say where peaks are: ``"detect"``
        leaves out pixels that stand out from those around them; ``"mode-filter"``,
        ``"median-filter"`` and ``"mean-filter"`` put the mode, median or mean without peaks of the
        window around it in the place of every pixel, see docs/reduction.md.
    bragg_shape : str
        What is near: ``"sphere"``, a radius around each node; ``"fitted"``, the ellipsoid that
        spots of each sweep are found to have, see `spot_shape`; ``"auto"``, that of the sweeps in
        which it is found, and the sphere of the others, of less than five images, of images that
        are followed, and where a radius is given.
    bragg_sigmas : float
        Standard deviations of the fitted shape within which pixels are near. On made images with
        peaks a few hundred times the diffuse scattering 3.5 leave 0.5 % of excess, 4 leave 0.1 %.
    bragg_radius : float or None
        Of the sphere, see `bragg_mask`. If not given, 0.25 reciprocal-lattice units: on stills of
        staphylococcal nuclease peaks raise the mean of pixels by 41 % at 0.1 units from a node,
        7 % at 0.2, 4 % at 0.25 and 2 % at 0.3; beyond, it is the tail of the diffuse halo. 0.25
        takes 6.5 % of the pixels. Not for ``"fitted"``, which has no radius.
    bragg_radius_unit : str
        ``"rlu"`` (reciprocal-lattice units) or ``"1/angstrom"``.
    filter_size : int
        Of the window for detect and filters, odd [pixels].
    peak_margin : int
        Pixels within this distance of those that are detected are left out too.
    corrections : tuple of str
        What to correct for where it can be, among solid-angle, polarization, absorption (of the
        sensor), air, parallax, dark, flat-field, exposure, flux; see docs/reduction.md.
    air_fraction : float
        Part of the way from crystal to detector that is air and not helium or vacuum.
    flux : str or None
        File of one factor an image that its counts are proportional to, besides the exposure
        time: flux of the beam, transmission. Text, CSV or .npy; 0 or NaN leaves the image out.
    dark : str or None
        File of a dark image [ADU], subtracted from every image besides the pedestal.
    flat_field : str or None
        File of the response of each pixel, about 1, that counts are divided by.
    gain : float or None
        ADU per photon; None: the experiment says.
    background : tuple of str
        Sweeps without the crystal, subtracted image by image: experiment lists, or images.
    background_model : str
        ``"images"`` subtracts the mean of the background's images, ``"radial"`` a smooth function
        of the scattering angle fitted to it: less noise of few images, if it *is* radial.
    background_width : float or None
        The background of an image is the mean of those within a range of angle of this width
        [degrees]; all, if not given.
    oversample : tuple of 2 int
        Points along each side of a pixel, and through the rotation of an image, that its count is
        split over; 1, 1 gives the pixel whole to the voxel of its centre.
    scaling : str
        ``"none"``; ``"outliers"``: what a wedge of images measured in a voxel is left out where
        its equivalents make it improbable, and errors are those by which equivalents differ;
        ``"standard"``: it is scaled before that, as by the command scale with its defaults.
    laue_group : str or None
        With scaling: whose equivalents are to agree; that of the space group if not given.
    friedel : str
        With scaling, ``"merged"``: I(h) and I(−h) are equivalents too. ``"apart"``: they may
        differ, with an anomalous signal that corrections are not to take for absorption.
    wedge : float
        Images are one wedge while the crystal turns by no more than this [degrees].
    chips : tuple of 2 int
        With scaling: how many equal parts a panel has along its fast and its slow axis that may
        respond each in its own way, for the correction chip of the command scale.
    observations : str or None
        With scaling: file to keep the unmerged observations in, for the command scale.
    follow : float or None
        Images are still being written: wait for those that are not there, and end when all are, or
        when nothing new has come for so long [s]; the map is then of what came.
    n_workers : int or None
        Threads; None: as many as this process may run on. The map does not depend on it.
    seed : int
        Of the random halves, where no generator is given.

    Raises
    ------
    InputError
        If a value is not among those above.
    """

    d_min: float
    sampling: tuple[int, int, int] = (1, 1, 1)
    stills: bool = False
    still_sweeps: tuple[int, ...] = ()
    bragg: str = "exclude"
    bragg_shape: str = "auto"
    bragg_sigmas: float = 4.0
    bragg_radius: float | None = None
    bragg_radius_unit: str = "rlu"
    filter_size: int = 15
    peak_margin: int = 1
    corrections: tuple[str, ...] = CORRECTIONS
    air_fraction: float = 1.0
    flux: str | None = None
    dark: str | None = None
    flat_field: str | None = None
    gain: float | None = None
    background: tuple[str, ...] = ()
    background_model: str = "images"
    background_width: float | None = None
    oversample: tuple[int, int] = (1, 1)
    scaling: str = "none"
    laue_group: str | None = None
    friedel: Literal["merged", "apart"] = "merged"
    wedge: float = 1.0
    chips: tuple[int, int] = (1, 1)
    observations: str | None = None
    follow: float | None = None
    n_workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (
            ("bragg", BRAGG),
            ("bragg_radius_unit", RADIUS_UNITS),
            ("background_model", ("images", "radial")),
            ("scaling", ("none", "outliers", "standard")),
            ("bragg_shape", ("auto", "sphere", "fitted")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        _check_corrections(self.corrections)
        check_window(self.filter_size, self.peak_margin)
        _check_bragg(self)
        if not (np.isfinite(self.d_min) and self.d_min > 0):
            raise InputError(f"d_min must be > 0 Å, got {self.d_min}")
        for name in ("background_width", "wedge"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0 degrees, got {value}")
        _check_scaling(self)
        _check_follow(self)
        if not 0 <= self.air_fraction <= 1:
            raise InputError(f"air_fraction must be 0 to 1, got {self.air_fraction}")
        if self.gain is not None and not (np.isfinite(self.gain) and self.gain > 0):
            raise InputError(f"gain must be > 0 ADU per photon, got {self.gain}")
        for name in ("oversample", "chips"):
            if len(getattr(self, name)) != 2:
                raise InputError(f"{name} must be two whole numbers, got {getattr(self, name)}")
        check_chips(self.chips)
        Oversampling(*self.oversample)

    @property
    def fits_spots(self) -> bool:
        """Whether the shape of spots is to be fitted, where it can be."""
        if self.bragg not in ("exclude", "only"):
            return False
        if self.bragg_shape == "auto":
            return self.bragg_radius is None and self.follow is None
        return self.bragg_shape == "fitted"

    def is_still(self, sweep: int) -> bool:
        """Whether the crystal stood still on the images of a sweep, by its number."""
        return self.stills or sweep in self.still_sweeps

    def file_of(self, correction: str) -> str | None:
        """The file that a correction needs, where one is given and the correction is on."""
        files = {"dark": self.dark, "flat-field": self.flat_field, "flux": self.flux}
        return files[correction] if correction in self.corrections else None

    @property
    def pixel_corrections(self) -> tuple[str, ...]:
        """Those of the corrections that belong to a pixel, not to an image."""
        return tuple(name for name in self.corrections if name in PIXEL_CORRECTIONS)


def _check_corrections(names: tuple[str, ...]) -> None:
    """Check that all are known."""
    for name in names:
        if name not in CORRECTIONS:
            raise InputError(f"corrections must be among {', '.join(CORRECTIONS)}, got {name!r}")


def _check_scaling(options: MapOptions) -> None:
    """Check that what is for scaling goes with it."""
    check_friedel(options.friedel)
    if options.scaling != "none":
        return
    if options.observations is not None:
        raise InputError("observations are kept with scaling alone, got scaling 'none'")
    if options.laue_group is not None or options.friedel != "merged":
        raise InputError(
            "laue_group and friedel are of scaling, got scaling 'none': give them to merge"
        )


def _check_follow(options: MapOptions) -> None:
    """Check that images may be followed."""
    if options.follow is None:
        return
    if not (np.isfinite(options.follow) and options.follow > 0):
        raise InputError(f"follow must be > 0 s, got {options.follow}")
    if options.hot_pixels:
        raise InputError(
            "follow cannot go with hot_pixels, which need images from the whole scan: give a mask "
            "found from earlier images, as the command mask writes"
        )
    if options.fits_spots:
        raise InputError(
            "follow cannot go with bragg_shape 'fitted', which needs images from the whole scan: "
            "give a radius"
        )


def _check_bragg(options: MapOptions) -> None:
    """Check that what says how near pixels may come to nodes is in range, and of one shape."""
    if not (np.isfinite(options.bragg_sigmas) and options.bragg_sigmas > 0):
        raise InputError(f"bragg_sigmas must be > 0, got {options.bragg_sigmas}")
    if options.bragg_radius is None:
        if options.bragg_radius_unit != MapOptions.bragg_radius_unit:
            raise InputError(
                f"bragg_radius_unit is of a bragg_radius, got {options.bragg_radius_unit!r} alone"
            )
    elif options.fits_spots:
        raise InputError(
            f"bragg_radius is of spheres, got {options.bragg_radius:g} with bragg_shape 'fitted', "
            "which takes bragg_sigmas"
        )
