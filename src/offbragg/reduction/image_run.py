"""Going through images: read, masked, in photons, each given once to what adds it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from offbragg.reduction.arrivals import Arrivals
from offbragg.reduction.background import Background, Panels, check_background
from offbragg.reduction.detector_mask import DetectorMask, static_mask
from offbragg.reduction.experiment import Experiment, read_background
from offbragg.reduction.hot_pixels import HotPixels
from offbragg.reduction.image_filter import without_peaks
from offbragg.reduction.image_tasks import ImageTask
from offbragg.reduction.images import open_sweeps
from offbragg.reduction.options import MapOptions
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.photons import make_tables, search_hot_pixels, to_photons
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.radial_background import RadialModel
from offbragg.reduction.spot_mask import SpotMask
from offbragg.reduction.spot_search import search_spots
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
        One a panel, background subtracted; NaN = excluded. None at all where the image did not
        come.
    excess : tuple of ndarray, shape (slow, fast), float32, or None
        What their variances exceed them by; None without a background.
    """

    task: ImageTask
    experiment: Experiment
    tables: tuple[PixelTable, ...]
    photons: tuple[Float32Array, ...]
    excess: tuple[Float32Array, ...] | None = None

    @property
    def is_there(self) -> bool:
        """Whether the image came."""
        return bool(self.photons)

    def add_to(self, sums: Accumulator, rule: VoxelRule, *, stills: bool) -> None:
        """Add the pixels to the sums of their voxels."""
        if not self.is_there:
            return
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
    arrivals : Arrivals or None
        Waits for images where they are followed.
    spot_masks : dict of SpotMask
        Of the sweeps gone through so far, by their number, where a shape was asked for and found.
    """

    experiments: tuple[Experiment, ...]
    options: MapOptions
    reference: float
    progress: Progress
    masked: list[dict[str, int]] = field(default_factory=list)
    arrivals: Arrivals | None = None
    spot_masks: dict[int, SpotMask] = field(default_factory=dict)

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
            Gets the number of the stream and an image of it; called by one thread a stream, for
            images that did not come as well.
        """
        tasks = [task for stream in streams for task in stream]
        if not tasks:
            return
        first, options = self.experiments[tasks[0].experiment], self.options
        mask = static_mask(first, options)
        tables = make_tables(first, options, self.reference, mask)
        n_workers = count_workers(options.n_workers)
        with self._opened(tasks) as read:

            def load(task: ImageTask) -> tuple[Float32Array, ...]:
                images = read(task)
                if images is None:
                    return ()
                return to_photons(images, tables, first.detector, options)

            def cleaned(task: ImageTask) -> tuple[Panels, Panels | None]:
                loaded = load(task)
                if not loaded:  # an image that never came
                    return loaded, None
                photons, more = without_peaks(
                    loaded, options.bragg, options.filter_size, options.peak_margin
                )
                if background is None:
                    return photons, more
                times = background.exposure_ratio(self.experiments) / task.scale
                angle = np.degrees(self.experiments[task.experiment].angles()[task.image].mean())
                return background.subtract(photons, more, float(angle), times)

            if options.hot_pixels:
                ordered = sorted(tasks, key=lambda task: (task.experiment, task.image))
                found = search_hot_pixels(load, ordered, n_workers)
                mask, tables = _without(found, mask, tables)
            self.masked.append(mask.counts)
            self._fit_spots(load, tasks, tables)
            background = self._background(tables, first)

            def go_through(number: int) -> None:
                stream = streams[number]
                images = map_in_order(cleaned, stream, max(1, n_workers // len(streams)))
                for task, (photons, excess) in zip(stream, images, strict=True):
                    experiment = self.experiments[task.experiment]
                    use(number, LoadedImage(task, experiment, tables, photons, excess))
                    self.progress.step()

            self._side_by_side([partial(go_through, n) for n in range(len(streams))], n_workers)

    def _side_by_side(self, works: Sequence[Callable[[], None]], n_workers: int) -> None:
        """Do pieces of work in threads."""
        if self.arrivals is not None:
            # A thread each however few there are: one may wait while another works.
            self.arrivals.attend(works)
            return
        for _ in map_in_order(lambda work: work(), works, min(len(works), n_workers)):
            pass

    @contextmanager
    def _opened(
        self, tasks: Sequence[ImageTask]
    ) -> Iterator[Callable[[ImageTask], tuple[Pixels, ...] | None]]:
        """Give what reads images, waiting for them where they are followed; None: none came."""
        if self.arrivals is not None:
            yield self.arrivals.read
            return
        with open_sweeps(self.experiments, (task.experiment for task in tasks)) as read:
            yield lambda task: read(task.experiment, task.image)

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
            found = search_spots(load, images, tables, self.experiments[sweep], self.options)
            if found is not None:
                self.spot_masks[sweep] = found

    def _background(self, tables: tuple[PixelTable, ...], data: Experiment) -> Background | None:
        """Sweeps without the crystal that the options name, on the same detector."""
        if not self.options.background:
            return None
        sweeps = tuple(x for path in self.options.background for x in read_background(path))
        check_background(self.experiments, sweeps)

        def photons(images: Sequence[Pixels]) -> Panels:
            return to_photons(images, tables, sweeps[0].detector, self.options)

        model = None
        if self.options.background_model == "radial":
            model = RadialModel.of_tables(tables, data.beam).smooth
        return Background(sweeps, photons, self.options.background_width, model)


def _without(
    found: HotPixels | None, mask: DetectorMask, tables: tuple[PixelTable, ...]
) -> tuple[DetectorMask, tuple[PixelTable, ...]]:
    """Exclude what was found of hot and dead pixels."""
    if found is None:
        return mask, tables
    return mask.with_hot_pixels(found), tuple(
        replace(table, excluded=table.excluded | hot | dead)
        for table, hot, dead in zip(tables, found.hot, found.dead, strict=True)
    )
