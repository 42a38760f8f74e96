"""`FitOptions`: what a fit is told beside map, structure and model."""

from __future__ import annotations

from dataclasses import dataclass

from offbragg.errors import InputError

SOLVERS = ("auto", "gauss-newton", "l-bfgs")
LOSSES = ("squares", "huber")


@dataclass(frozen=True)
class FitOptions:
    """What `fit` is told beside map, structure and model; see there."""

    refine: tuple[str, ...] | None = None
    adps: str = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: str = "smooth"
    held_out: float = 0.1
    block_edge: int | None = None
    max_evaluations: int = 60
    voxel_average: bool | None = None
    rtol: float = 5e-4
    solver: str = "auto"
    loss: str = "squares"

    def __post_init__(self) -> None:
        for name in ("d_min", "d_max", "max_evaluations", "block_edge"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if self.solver not in SOLVERS:
            raise InputError(f"solver must be one of {' '.join(SOLVERS)}, got {self.solver!r}")
        if self.loss not in LOSSES:
            raise InputError(f"loss must be one of {' '.join(LOSSES)}, got {self.loss!r}")
