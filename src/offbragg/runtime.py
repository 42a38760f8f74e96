"""Chunks, progress and workers: how long work is cut up, watched and spread over processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Protocol, TypeVar

from threadpoolctl import ThreadpoolController

from offbragg.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Watches long work. The library only calls these; the command line supplies a bar."""

    def start(self, what: str, total: int) -> None:
        """Begin a piece of work of ``total`` steps."""

    def step(self, n: int = 1) -> None:
        """Say that ``n`` more steps are done."""


class SilentProgress:
    """The default: watches nothing."""

    def start(self, what: str, total: int) -> None:
        """Ignore the beginning of a piece of work."""

    def step(self, n: int = 1) -> None:
        """Ignore a step."""


SILENT = SilentProgress()


def say(progress: Progress, what: str) -> None:
    """Tell how the work goes, where what watches it has a method ``say``: not all that do have."""
    tell = getattr(progress, "say", None)
    if tell is not None:
        tell(what)


def iter_chunks(n_items: int, chunk_size: int) -> Iterator[slice]:
    """Cut ``range(n_items)`` into slices of at most ``chunk_size``.

    >>> [(c.start, c.stop) for c in iter_chunks(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    if chunk_size < 1:
        raise InputError(f"chunk_size must be >= 1, got {chunk_size}")
    for start in range(0, n_items, chunk_size):
        yield slice(start, min(start + chunk_size, n_items))


def count_workers(n_workers: int | None = None) -> int:
    """Return the number of threads to use: the given one, or what this process may run on.

    >>> count_workers(3)
    3
    """
    if n_workers is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else (os.cpu_count() or 1)
    if n_workers < 1:
        raise InputError(f"n_workers must be >= 1, got {n_workers}")
    return n_workers


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], n_workers: int | None = None
) -> Iterator[Result]:
    """Apply a function in threads, a few items ahead, and give the results in the order of items.

    Threads, not processes: the functions passed here spend their time in compiled code that
    releases the interpreter lock. At most ``2 n_workers`` results wait, so memory is bounded.

    >>> list(map_in_order(lambda x: x * x, range(4), n_workers=2))
    [0, 1, 4, 9]
    """
    n_threads = count_workers(n_workers)
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = []
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * n_threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def one_blas_thread() -> AbstractContextManager[object]:
    """Return a context in which matrix products run in the thread that calls them.

    For work that is spread over threads already: BLAS threads beside those only wait for them.

    >>> with one_blas_thread():
    ...     pass
    """
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> ThreadpoolController:
    """The libraries that are loaded, looked for once."""
    return ThreadpoolController()
