"""The command that shows maps and images in a browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from offbragg.cli.console import Outcome
from offbragg.cli.options import Common
from offbragg.errors import InputError

if TYPE_CHECKING:
    from offbragg.viewer.frames import FrameSeries

_USUAL_D_MIN = 2.0  # [Å] of nodes, where no map says


def view(
    *files: Path,
    port: int = 0,
    browser: bool = True,
    d_min: float | None = None,
    images: Path | None = None,
    common: Common | None = None,
) -> Outcome:
    """Look at maps and images in a browser: sections, differences, profiles, three dimensions.

    The page is served on this machine only, at an address with a random token in it, until
    Ctrl-C; nothing is fetched from elsewhere. What is shown is in the address, and can be kept.

    Parameters
    ----------
    files
        Map files, and experiment lists or geometry of XDS for the images that they name.
    port
        Of the address; any free one if not given.
    browser
        Open the page; otherwise only its address is printed.
    d_min
        Resolution limit of the Bragg nodes that are predicted on images [Å]; the maps' if not
        given, or 2.
    images
        Where the images are, if not where the experiments say: template, file or folder.
    """
    # Only this command needs a web server.
    from offbragg.viewer import Collection, ViewerServer, open_browser

    if not files:
        raise InputError("view needs at least one map file or .expt file")
    if d_min is not None and not d_min > 0:
        raise InputError(f"--d-min must be > 0 Å, got {d_min}")
    maps = [path for path in files if path.suffix.lower() in (".h5", ".hdf5", ".nxs")]
    collection = Collection(maps)
    collection.warm_up()
    limits = (d_min, *(one.d_min for one in collection.maps), _USUAL_D_MIN)
    collection.frames += _series(
        [path for path in files if path not in maps], images, next(x for x in limits if x)
    )

    def show(url: str) -> None:
        sys.stdout.write(f"{url}\nCtrl-C ends\n")
        sys.stdout.flush()
        if browser:
            open_browser(url)

    ViewerServer.bind(collection, port).run(on_start=show)
    return Outcome()


def _series(paths: Sequence[Path], images: Path | None, d_min: float) -> list[FrameSeries]:
    """Series of images of experiment lists; what reads them is imported where there are some."""
    if not paths:
        return []
    from offbragg.reduction.experiment import read_experiments
    from offbragg.viewer.frames import FrameSeries

    series = []
    for path in paths:
        found = read_experiments(path, images)
        for number, experiment in enumerate(found, start=1):
            name = path.name if len(found) == 1 else f"{path.name} {number}"
            series.append(FrameSeries(name, experiment, d_min))
    return series
