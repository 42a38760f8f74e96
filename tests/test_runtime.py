"""Chunks, threads in order, progress."""

import itertools
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from offbragg.errors import InputError
from offbragg.runtime import SILENT, count_workers, iter_chunks, map_in_order, one_blas_thread

QUICK = settings(deadline=None, derandomize=True, max_examples=50)
# Long enough for another thread to overtake, short enough not to be felt.
MOMENT = 0.002


# --- 2 independent oracle ------------------------------------------------


@QUICK
@given(n_items=st.integers(0, 60), chunk_size=st.integers(1, 70))
def test_chunks_cover_everything_once_and_in_order(n_items, chunk_size):
    chunks = list(iter_chunks(n_items, chunk_size))
    covered = [i for chunk in chunks for i in range(n_items)[chunk]]
    assert covered == list(range(n_items))
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    assert all(0 < size <= chunk_size for size in sizes)
    assert all(size == chunk_size for size in sizes[:-1])


@settings(deadline=None, derandomize=True, max_examples=20)
@given(n_items=st.integers(0, 20), n_workers=st.integers(1, 5))
def test_results_come_in_the_order_of_items(n_items, n_workers):
    assert list(map_in_order(lambda x: x**2, range(n_items), n_workers)) == [
        x**2 for x in range(n_items)
    ]


def test_slow_items_do_not_change_the_order():
    def slow_first(x):
        time.sleep(MOMENT * (5 - x))
        return x

    assert list(map_in_order(slow_first, range(5), n_workers=5)) == [0, 1, 2, 3, 4]


# --- 3 exact limits ------------------------------------------------------


def test_one_worker_is_the_calling_thread_and_lazy():
    seen = []

    def note(x):
        seen.append((x, threading.get_ident()))
        return x

    results = map_in_order(note, itertools.count(), n_workers=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert seen == [(x, threading.get_ident()) for x in range(3)]


def test_only_a_few_results_wait():
    taken = []

    def items():
        for x in range(100):
            taken.append(x)
            yield x

    results = map_in_order(lambda x: x, items(), n_workers=3)
    for asked in range(10):
        assert next(results) == asked
        assert len(taken) <= asked + 1 + 2 * 3
    results.close()
    assert len(taken) < 20


def test_workers_default_to_what_this_process_may_use():
    assert count_workers() >= 1
    assert count_workers(7) == 7


def test_silence_takes_every_call():
    SILENT.start("work", 10)
    SILENT.step()
    SILENT.step(3)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 3])
def test_an_error_in_an_item_reaches_the_caller_at_its_turn(n_workers):
    def fails_at_three(x):
        if x == 3:
            raise InputError("item 3")
        return x

    results = map_in_order(fails_at_three, range(10), n_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="item 3"):
        next(results)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_an_error_in_the_items_reaches_the_caller(n_workers):
    def broken():
        yield 1
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        list(map_in_order(lambda x: x, broken(), n_workers))


def test_matrix_products_run_in_one_thread_within_and_in_as_many_as_before_after():
    def blas_threads():
        return [x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"]

    before = blas_threads()
    assert before
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("n", [0, -1])
def test_numbers_below_one_are_refused(n):
    with pytest.raises(InputError, match=f"chunk_size must be >= 1, got {n}"):
        list(iter_chunks(5, n))
    with pytest.raises(InputError, match=f"n_workers must be >= 1, got {n}"):
        count_workers(n)
    with pytest.raises(InputError, match=f"n_workers must be >= 1, got {n}"):
        list(map_in_order(abs, [1], n))
