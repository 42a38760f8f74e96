"""Headers of SMV images (``.img``), as ADSC and its relatives write them."""

from __future__ import annotations

from collections.abc import Mapping

from offbragg.errors import FormatError
from offbragg.reduction.image_header import (
    NO_POLARIZATION,
    ImageHeader,
    header_number,
    plain_geometry,
)

_SATURATION = 65535  # of 16 bits, where the header is silent


def smv_header(
    header: Mapping[str, str], where: str, beam_centre: tuple[float, float] | None = None
) -> ImageHeader:
    """Read the geometry of an SMV header.

    BEAM_CENTER_X is taken along the *slow* axis and BEAM_CENTER_Y along the fast one, both [mm]
    from the first pixel's outer corner, as ADSC and MOSFLM have it. Not all do: a note says
    what was taken, and ``beam_centre`` overrides it.

    Parameters
    ----------
    header : mapping of str to str
    where : str
        File, for messages.
    beam_centre : tuple of 2 float, optional
        Fast and slow [pixels].

    Raises
    ------
    FormatError
        If something is missing or no number, or the detector is on a 2θ arm, whose axis an SMV
        header does not give.
    """
    values = {name: text.split(";")[0].strip() for name, text in header.items()}
    if abs(header_number(values, "TWOTHETA", where, 0.0)) > 1e-6:
        raise FormatError(
            f"{where}: TWOTHETA: expected 0, as the header does not tell its axis, found "
            f"{values['TWOTHETA']}; give the geometry by an .expt or XPARM.XDS"
        )
    pixel = header_number(values, "PIXEL_SIZE", where)
    if not pixel > 0:
        raise FormatError(f"{where}: PIXEL_SIZE: expected > 0 mm, found {pixel}")
    notes: tuple[str, ...] = (NO_POLARIZATION,)
    if beam_centre is None:
        fast = header_number(values, "BEAM_CENTER_Y", where) / pixel
        slow = header_number(values, "BEAM_CENTER_X", where) / pixel
        beam_centre = (fast, slow)
        notes += (
            f"the beam is taken at fast {fast:.2f} (BEAM_CENTER_Y), slow {slow:.2f} "
            "(BEAM_CENTER_X) pixels; SMV headers differ in this",
        )
    pedestal = header_number(values, "IMAGE_PEDESTAL", where, 0.0)
    saturation = header_number(values, "CCD_IMAGE_SATURATION", where, _SATURATION)
    panel = {
        "pixel_size": (pixel, pixel),
        "image_size": tuple(int(header_number(values, f"SIZE{i}", where)) for i in (1, 2)),
        # Where a pedestal is added, 0 is no measurement.
        "trusted_range": (1.0 if pedestal > 0 else 0.0, saturation - 1),
        "pedestal": pedestal,
    }
    distance = header_number(values, "DISTANCE", where)
    wavelength = header_number(values, "WAVELENGTH", where)
    beam, detector, goniometer = plain_geometry(wavelength, distance, beam_centre, panel)
    exposure = header_number(values, "TIME", where, 0.0)
    start = "OSC_START" if "OSC_START" in values else "PHI"
    return ImageHeader(
        beam=beam,
        detector=detector,
        goniometer=goniometer,
        start=header_number(values, start, where, 0.0),
        width=header_number(values, "OSC_RANGE", where, 0.0),
        exposure_time=exposure if exposure > 0 else None,
        notes=notes,
    )
