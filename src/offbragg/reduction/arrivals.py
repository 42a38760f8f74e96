"""Images as they come from the beamline: waited for, in the order of the scan, until a time-out."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Condition
from typing import Protocol

from offbragg.errors import MissingFileError
from offbragg.reduction.growing_files import GrowingFiles
from offbragg.reduction.growing_stacks import GrowingStacks
from offbragg.reduction.image_tasks import ImageTask
from offbragg.reduction.images import UnreadableImageError, is_stack
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.sweep import Experiment
from offbragg.runtime import SILENT, Progress, say

logger = logging.getLogger(__name__)

# Between two looks [s], and the part of the time-out that it is where that is short: several
# looks must fit in, as a file is taken on the second that finds it unchanged.
_LOOK_EVERY = 1.0
_LOOKS = 8


class GrowingImages(Protocol):
    """Images that are being written, of several sweeps; named by sweep and image, from 0."""

    def look(self) -> bool:
        """See what has come since the last look; whether anything has."""

    def is_there(self, sweep: int, image: int) -> bool:
        """Whether an image may be read."""

    def why_not(self, sweep: int, image: int) -> str:
        """Say what an image lacks that cannot be read yet."""

    def read(self, sweep: int, image: int) -> tuple[Pixels, ...]:
        """Read an image; `UnreadableImageError` if it is not whole after all."""

    def put_back(self, sweep: int, image: int, reason: str) -> None:
        """Await an image again that could not be read."""

    def close(self) -> None:
        """Close what is open."""


class Arrivals:
    """Gives images when they are there: an image only after all that come before it in the scan.

    So nothing has to be kept for an image that is late, and sums are added up in the same order
    as of complete images. After ``seconds`` without anything new, what has come is given and the
    rest is not awaited any more.

    Parameters
    ----------
    experiments : sequence of Experiment
    tasks : sequence of ImageTask
        The images, in order.
    seconds : float
        Time-out [s].
    progress : Progress
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        tasks: Sequence[ImageTask],
        seconds: float,
        progress: Progress = SILENT,
    ) -> None:
        self._seconds, self._progress = seconds, progress
        self._every = min(_LOOK_EVERY, seconds / _LOOKS)
        self._source_of = _sources(experiments, {task.experiment for task in tasks})
        self._sources = list({id(source): source for source in self._source_of.values()}.values())
        self._tasks = list(tasks)
        self._place = {task: place for place, task in enumerate(tasks)}
        self._there = [False] * len(tasks)
        self._n_there = 0
        self._n_before = 0  # those that are there without a gap
        self._is_over = False
        self._is_stopped = False
        self._last_change = time.monotonic()
        self._news = Condition()
        #: Images read so far, by the number of their experiment.
        self.n_came: Counter[int] = Counter()

    def read(self, task: ImageTask) -> tuple[Pixels, ...] | None:
        """Wait for an image and read it: an array (slow, fast) a panel; None if it did not come."""
        source = self._source_of[task.experiment]
        while self._await(task):
            try:
                images = source.read(task.experiment, task.image)
            except UnreadableImageError as error:
                self._put_back(task, str(error))
                continue
            with self._news:
                self.n_came[task.experiment] += 1
            return images
        return None

    def attend(self, works: Sequence[Callable[[], None]]) -> None:
        """Do pieces of work that read images, each in a thread; look for new ones meanwhile.

        This thread looks and no other, so that an interrupt ends the waiting of all.
        """
        with ThreadPoolExecutor(len(works)) as pool:
            running = [pool.submit(work) for work in works]
            try:
                while not all(future.done() for future in running):
                    self._look()
                    wait(running, self._every, FIRST_EXCEPTION)
                    for future in running:
                        if future.done():
                            future.result()
            except BaseException:
                self._stop()
                raise

    def conclude(self) -> None:
        """Say how many images came.

        Raises
        ------
        MissingFileError
            If none did.
        """
        n_came, n_images = sum(self.n_came.values()), len(self._tasks)
        if n_came == n_images:
            logger.info("follow: all %d images came", n_images)
            return
        first = self._tasks[self._there.index(False)]
        lacks = self._source_of[first.experiment].why_not(first.experiment, first.image)
        if not n_came:
            raise MissingFileError(
                f"no image of {n_images} came within {self._seconds:g} s; the first: {lacks}"
            )
        logger.warning(
            "follow: %d of %d images came, then nothing new for %g s: the map is of these; the "
            "first that lacks: %s", n_came, n_images, self._seconds, lacks,
        )  # fmt: skip

    def close(self) -> None:
        """Close what is open."""
        for source in self._sources:
            source.close()

    def _await(self, task: ImageTask) -> bool:
        """Wait until an image may be read, or is not awaited any more: whether it may."""
        place = self._place[task]
        with self._news:
            self._news.wait_for(lambda: self._is_over or place < self._n_before)
            return self._there[place] and not self._is_stopped

    def _put_back(self, task: ImageTask, reason: str) -> None:
        place = self._place[task]
        with self._news:
            self._source_of[task.experiment].put_back(task.experiment, task.image, reason)
            self._there[place] = False
            self._n_there -= 1
            self._n_before = min(self._n_before, place)

    def _look(self) -> None:
        """See what is there, and whether the time-out is over."""
        with self._news:
            if self._is_over or self._n_there == len(self._tasks):
                return
            news = [source.look() for source in self._sources]
            if any(news):
                self._last_change = time.monotonic()
            for place, task in enumerate(self._tasks):
                if not self._there[place]:
                    source = self._source_of[task.experiment]
                    self._there[place] = source.is_there(task.experiment, task.image)
            self._n_there = sum(self._there)
            while self._n_before < len(self._tasks) and self._there[self._n_before]:
                self._n_before += 1
            self._is_over = time.monotonic() - self._last_change >= self._seconds
            say(self._progress, f"{self._n_there} of {len(self._tasks)} images there")
            self._news.notify_all()

    def _stop(self) -> None:
        with self._news:
            self._is_over = self._is_stopped = True
            self._news.notify_all()


def _sources(
    experiments: Sequence[Experiment], numbers: set[int]
) -> Mapping[int, GrowingFiles | GrowingStacks]:
    """Sources of the experiments' images: one of all files, one of all stacks."""
    stacks = {number for number in numbers if is_stack(experiments[number])}
    sources: dict[int, GrowingFiles | GrowingStacks] = {}
    if stacks:
        stacked = GrowingStacks({number: experiments[number] for number in stacks})
        sources |= dict.fromkeys(stacks, stacked)
    if numbers - stacks:
        single = GrowingFiles({number: experiments[number] for number in numbers - stacks})
        sources |= dict.fromkeys(numbers - stacks, single)
    return sources
