"""A solver under watch: its best so far is kept, and it can be told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from offbragg.conventions import FloatArray


class StoppedEarlyError(Exception):
    """A solver was stopped; the message says why. Never leaves the solvers."""


@dataclass(eq=False)
class Watch:
    """The best vector that a solver has seen, and until when it may go on.

    Attributes
    ----------
    deadline : float or None
        Of `time.monotonic` [s].
    value : float
        Least misfit so far.
    x : ndarray or None
        Where that is.
    keep : function or None
        Called with every new best: its misfit and vector.
    """

    deadline: float | None = None
    value: float = float("inf")
    x: FloatArray | None = field(default=None)
    keep: Callable[[float, FloatArray], None] | None = None

    @classmethod
    def lasting(
        cls, max_seconds: float | None, keep: Callable[[float, FloatArray], None] | None = None
    ) -> Watch:
        """Start a watch that runs out after so many seconds; never where None."""
        return cls(None if max_seconds is None else time.monotonic() + max_seconds, keep=keep)

    @property
    def has_run_out(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def anew(self) -> Watch:
        """Return a watch of the same deadline that has seen nothing yet."""
        return Watch(self.deadline, keep=self.keep)

    def saw(self, value: float, x: FloatArray) -> bool:
        """Take note of a misfit, and tell whether it is the least so far; NaN is none.

        Raises
        ------
        StoppedEarlyError
            If the time is up.
        """
        is_best = value < self.value
        if is_best:
            self.value, self.x = value, x.copy()
            if self.keep is not None:
                self.keep(value, self.x)
        if self.x is not None and self.has_run_out:
            raise StoppedEarlyError("max_seconds reached")
        return is_best
