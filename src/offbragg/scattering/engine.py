"""`Engine`: how intensities are to be computed, whatever the model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from offbragg.errors import InputError
from offbragg.runtime import SILENT, Progress

METHODS = ("auto", "splat", "pair-nufft", "gemm", "one-phonon", "sampled", "direct")
ALTLOCS = ("together", "exclusive")
DEFAULT_RTOL = 1e-4
DEFAULT_MEMORY = 2e9


@dataclass(frozen=True)
class Engine:
    """Method, tolerance, memory and what scatters, for every model alike.

    Attributes
    ----------
    method : {"auto", "splat", "pair-nufft", "gemm", "one-phonon", "sampled", "direct"}
        "auto": the fastest that is exact. "splat", "pair-nufft" (isotropic displacements), "gemm"
        (likewise), "direct": exact in the Gaussian approximation. "one-phonon": first order in
        the covariance. "sampled": mean over random draws.
    rtol : float
        Largest error wanted, as a fraction of the mean diffuse intensity.
    max_memory : float
        Bytes that the work arrays may take, beside the result; what can be cut is cut to fit.
    wavelength : float or None
        [Å]. Given: anomalous scattering f′ + if″ at this wavelength. None: none.
    altlocs : {"together", "exclusive"}
        "together": all altlocs scatter together, each with its occupancy. "exclusive": two
        altlocs of one residue never coexist, and the disorder of their occupation is added.
    n_samples, seed : int
        Draws of "sampled" and where they start.
    progress : Progress
        Told of each transform or draw on a lattice.
    """

    method: str = "auto"
    rtol: float = DEFAULT_RTOL
    max_memory: float = DEFAULT_MEMORY
    wavelength: float | None = None
    altlocs: str = "together"
    n_samples: int = 1000
    seed: int = 0
    progress: Progress = field(default=SILENT, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method must be one of {' '.join(METHODS)}, got {self.method!r}")
        if not 0 < self.rtol < 1:
            raise InputError(f"rtol must be between 0 and 1, got {self.rtol}")
        if not self.max_memory > 0:
            raise InputError(
                f"max_memory must be a positive number of bytes, got {self.max_memory}"
            )
        if self.wavelength is not None and not (
            np.isfinite(self.wavelength) and self.wavelength > 0
        ):
            raise InputError(f"wavelength must be a positive number of Å, got {self.wavelength}")
        if self.altlocs not in ALTLOCS:
            raise InputError(f"altlocs must be one of {' '.join(ALTLOCS)}, got {self.altlocs!r}")
        if self.n_samples < 1:
            raise InputError(f"n_samples must be at least 1, got {self.n_samples}")
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, got {self.seed}")
