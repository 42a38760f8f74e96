"""`FitOptions`: what a fit is told beside map, structure and model."""

from __future__ import annotations

from dataclasses import dataclass

from offbragg.errors import InputError

SOLVERS = ("auto", "gauss-newton", "truncated-newton", "l-bfgs")
LOSSES = ("squares", "huber", "poisson")
RESTRAINTS = ("adp_error", "neighbour_error", "motion_error", "copy_error")
ERRORS = ("auto", "gauss-newton", "bootstrap", "none")
# "auto" works errors out for so many numbers at most: each costs a product, once.
MOST_WITH_ERRORS = 400
# "auto" solves by Gauss-Newton up to so many numbers: each costs a product a step.
MOST_DENSE = 30
# Where no limit is given: steps of Gauss-Newton; maps, products and gradients of other solvers.
GAUSS_NEWTON_STEPS, OTHER_MAPS = 25, 600


@dataclass(frozen=True)
class FitOptions:
    """What `fit` is told beside map, structure and model; see there."""

    refine: tuple[str, ...] | None = None
    adps: str = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: str = "smooth"
    harmonics: int = 0
    held_out: float = 0.1
    block_edge: int | None = None
    max_evaluations: int | None = None
    max_seconds: float | None = None
    n_starts: int = 1
    voxel_average: bool | None = None
    rtol: float = 5e-4
    solver: str = "auto"
    loss: str = "squares"
    errors: str = "auto"
    adp_error: float | None = None
    neighbour_error: float | None = None
    motion_error: float | None = None
    copy_error: float | None = None

    def __post_init__(self) -> None:
        for name in (
            "d_min", "d_max", "max_evaluations", "max_seconds", "block_edge", "n_starts",
            *RESTRAINTS,
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if self.solver not in SOLVERS:
            raise InputError(f"solver must be one of {' '.join(SOLVERS)}, got {self.solver!r}")
        if self.loss not in LOSSES:
            raise InputError(f"loss must be one of {' '.join(LOSSES)}, got {self.loss!r}")
        if self.errors not in ERRORS:
            raise InputError(f"errors must be one of {' '.join(ERRORS)}, got {self.errors!r}")

        if self.adp_error is not None and self.adps == "file":
            raise InputError("adp_error restrains ADPs, but adps='file' fixes them")

    def expected_departures(self) -> dict[str, float | None]:
        """What `restraints_of` is told [Å²]."""
        return {name: getattr(self, name) for name in RESTRAINTS}

    def is_dense(self, n_numbers: int) -> bool:
        """Whether so many numbers are solved for by Gauss-Newton, with all derivatives."""
        return self.solver == "gauss-newton" or (self.solver == "auto" and n_numbers <= MOST_DENSE)

    def wants_errors(self, n_numbers: int) -> bool:
        """Whether errors are worked out of so many numbers."""
        if self.errors == "auto":
            return n_numbers <= MOST_WITH_ERRORS
        return self.errors != "none"

    def most_evaluations(self, n_numbers: int) -> int:
        """Maps and derivatives of maps to make at most for so many numbers."""
        if self.max_evaluations is not None:
            return self.max_evaluations
        return GAUSS_NEWTON_STEPS * (1 + n_numbers) if self.is_dense(n_numbers) else OTHER_MAPS
