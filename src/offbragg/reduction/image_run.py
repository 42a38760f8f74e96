"""Going through images: read, masked, in photons, each given once to what adds it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from offbragg.reduction.background import Background, Panels, check_background
from offbragg.reduction.detector_mask import static_mask
from offbragg.reduction.experiment import Experiment, read_background
from offbragg.reduction.image_tasks import ImageTask
from offbragg.reduction.images import open_sweeps
from offbragg.reduction.options import MapOptions
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.photons import make_tables, search_hot_pixels, to_photons
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.spot_search import search_spot_shape
from offbragg.reduction.spot_shape import SpotShape
from offbragg.reduction.voxelize import Accumulator, VoxelRule, accumulate_image
from offbragg.runtime import Progress, count_workers, map_in_order


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One image in photons, with what its pixels need to be added up.

    Attributes
    ----------
    task : ImageTask
    experiment : Experiment
    tables : tuple of PixelTable
        One a panel.
    photons : tuple of ndarray, shape (slow, fast), float32
        One a panel, background subtracted; NaN = excluded.
    excess : tuple of ndarray, shape (slow, fast), float32, or None
        What their variances exceed them by; None without a background.
    """

    task: ImageTask
    experiment: Experiment
    tables: tuple[PixelTable, ...]
    photons: tuple[Float32Array, ...]
    excess: tuple[Float32Array, ...] | None = None

    def add_to(self, sums: Accumulator, rule: VoxelRule, *, stills: bool) -> None:
        """Add the pixels to the sums of their voxels."""
        accumulate_image(
            sums, self.tables, self.photons, self.experiment, self.task.image, rule,
            stills=stills, scale=self.task.scale, excess=self.excess,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageRun:
    """What the work on all images shares.

    Attributes
    ----------
    experiments : tuple of Experiment
        See `as_asked`.
    options : MapOptions
    reference : float
        Reference solid angle [sr].
    progress : Progress
    masked : list of dict
        Pixels that are excluded by reason, of each detector gone through so far.
    shapes : dict of SpotShape
        Of the sweeps gone through so far, by their number, where the options ask for it.
    """

    experiments: tuple[Experiment, ...]
    options: MapOptions
    reference: float
    progress: Progress
    masked: list[dict[str, int]] = field(default_factory=list)
    shapes: dict[int, SpotShape] = field(default_factory=dict)

    def each(
        self,
        streams: Sequence[Sequence[ImageTask]],
        use: Callable[[int, LoadedImage], None],
    ) -> None:
        """Load images that share beam and detector; use each stream's in order, in one thread.

        Parameters
        ----------
        streams : sequence of sequences of ImageTask
        use : callable
            Gets the number of the stream and an image of it; called by one thread a stream.
        """
        tasks = [task for stream in streams for task in stream]
        if not tasks:
            return
        first = self.experiments[tasks[0].experiment]
        mask = static_mask(first, self.options)
        tables = make_tables(first, self.options, self.reference, mask)
        n_workers = count_workers(self.options.n_workers)
        with open_sweeps(self.experiments, (task.experiment for task in tasks)) as read:

            def load(task: ImageTask) -> tuple[Float32Array, ...]:
                images = read(task.experiment, task.image)
                return to_photons(images, tables, first.detector, self.options)

            def cleaned(task: ImageTask) -> tuple[Panels, Panels | None]:
                photons = load(task)
                if background is None:
                    return photons, None
                times = background.exposure_ratio(self.experiments) / task.scale
                angle = np.degrees(self.experiments[task.experiment].angles()[task.image].mean())
                elsewhere, excess = background.of(float(angle), times)
                return tuple(c - b for c, b in zip(photons, elsewhere, strict=True)), excess

            if self.options.hot_pixels:
                ordered = sorted(tasks, key=lambda task: (task.experiment, task.image))
                found = search_hot_pixels(load, ordered, n_workers)
                if found is not None:
                    mask = mask.with_hot_pixels(found)
                    tables = tuple(
                        replace(table, excluded=table.excluded | hot | dead)
                        for table, hot, dead in zip(tables, found.hot, found.dead, strict=True)
                    )
            self.masked.append(mask.counts)
            self._fit_spots(load, tasks, tables)
            background = self._background(tables)

            def go_through(number: int) -> None:
                stream = streams[number]
                images = map_in_order(cleaned, stream, max(1, n_workers // len(streams)))
                for task, (photons, excess) in zip(stream, images, strict=True):
                    experiment = self.experiments[task.experiment]
                    use(number, LoadedImage(task, experiment, tables, photons, excess))
                    self.progress.step()

            for _ in map_in_order(go_through, range(len(streams)), min(len(streams), n_workers)):
                pass

    def _fit_spots(
        self,
        load: Callable[[ImageTask], tuple[Float32Array, ...]],
        tasks: Sequence[ImageTask],
        tables: tuple[PixelTable, ...],
    ) -> None:
        """Fit the shape of each sweep's spots, where the options ask for it."""
        if not self.options.fits_spots:
            return
        for sweep in dict.fromkeys(task.experiment for task in tasks):
            images = [task for task in tasks if task.experiment == sweep]
            self.shapes[sweep] = search_spot_shape(
                load, images, tables, self.experiments[sweep], self.options
            )

    def _background(self, tables: tuple[PixelTable, ...]) -> Background | None:
        """Sweeps without the crystal that the options name, on the same detector."""
        if not self.options.background:
            return None
        sweeps = tuple(x for path in self.options.background for x in read_background(path))
        check_background(self.experiments, sweeps)

        def photons(images: Sequence[Pixels]) -> Panels:
            return to_photons(images, tables, sweeps[0].detector, self.options)

        return Background(sweeps, photons, self.options.background_width)
