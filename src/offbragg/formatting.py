"""Values as people read them, on pages and in terminals alike."""

from __future__ import annotations


def show(value: object) -> str:
    """Write a value for people.

    >>> show(0.123456), show(None), show(float("nan")), show(12345)
    ('0.1235', '–', '–', '12345')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)
