"""The geometry that images carry themselves, and an experiment made of it with a crystal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.reduction.geometry import Beam, CrystalModel, Goniometer, Scan
from offbragg.reduction.panel import Panel
from offbragg.reduction.sweep import Experiment

# Beam and rotation axis of two frames: angles between them that differ by more do not match.
_SAME_ANGLE = np.radians(1.0)


@dataclass(frozen=True, eq=False)
class ImageGeometry:
    """A sweep of images without its crystal.

    Attributes
    ----------
    beam : Beam
    detector : tuple of Panel
    goniometer : Goniometer
    scan : Scan
    template : str
        Path of the images: with ``#`` for the digits of the image number, or one file.
    """

    beam: Beam
    detector: tuple[Panel, ...]
    goniometer: Goniometer
    scan: Scan
    template: str = ""

    def with_crystal(self, crystal: CrystalModel | Experiment) -> Experiment:
        """Add a crystal.

        Parameters
        ----------
        crystal : CrystalModel or Experiment
            A CrystalModel is taken as it is: in the frame of these images, at the datum of their
            goniometer. Of an Experiment, as read from an ``.expt`` or XPARM.XDS, the crystal is
            turned from the experiment's frame to that of the images: beam onto beam, and rotation
            axis onto rotation axis. The angles of both scans must count from one zero.

        Returns
        -------
        Experiment

        Raises
        ------
        InputError
            If beam and axis enclose angles that differ by more than 1° in the two.
        """
        source = ""
        if isinstance(crystal, Experiment):
            source, crystal = crystal.source, self._turned(crystal)
        return Experiment(
            beam=self.beam,
            detector=self.detector,
            goniometer=self.goniometer,
            scan=self.scan,
            crystal=crystal,
            template=self.template,
            source=source,
        )

    def _turned(self, source: Experiment) -> CrystalModel:
        """The crystal of an experiment at the datum of this goniometer: S R F A, axis S e."""
        theirs, ours = source.goniometer, self.goniometer
        axes = [g.setting_rotation @ g.rotation_axis for g in (theirs, ours)]
        frames = [
            _frame(beam.direction, axis)
            for beam, axis in zip((source.beam, self.beam), axes, strict=True)
        ]
        angles = [
            np.arccos(np.clip(beam.direction @ axis, -1, 1))
            for beam, axis in zip((source.beam, self.beam), axes, strict=True)
        ]
        if abs(angles[0] - angles[1]) > _SAME_ANGLE:
            given, own = np.degrees(angles)
            raise InputError(
                "crystal must have the rotation axis of the images: from the beam it is at "
                f"{given:.2f}°, theirs at {own:.2f}°"
            )
        turn = frames[1] @ frames[0].T
        before = turn @ theirs.setting_rotation @ theirs.fixed_rotation
        after = np.linalg.inv(ours.setting_rotation @ ours.fixed_rotation) @ before
        points = source.crystal.scan_points
        same = points is not None and len(points) == self.scan.n_images + 1
        return replace(
            source.crystal,
            a_matrix=after @ source.crystal.a_matrix,
            scan_points=after @ points if same and points is not None else None,
        )


def _frame(beam: FloatArray, axis: FloatArray) -> FloatArray:
    """Columns (3, 3) beam, axis made normal to it, and their cross product."""
    across = axis - beam * (beam @ axis)
    length = np.linalg.norm(across)
    if length < np.sin(_SAME_ANGLE):
        raise InputError("the rotation axis must not lie along the beam")
    across = across / length
    return np.stack([beam, across, np.cross(beam, across)], axis=1)
