"""The pool for array work: the order of results, and how far it works ahead."""

import collections
import itertools
import threading
import time

import pytest

from azimuthal import threads


@pytest.mark.parametrize("count", ["1", "3"])
def test_ahead_gives_results_in_order_and_works_ahead_no_farther_than_told(monkeypatch, count):
    monkeypatch.setenv("AZIMUTHAL_THREADS", count)
    taken = []

    def items():
        for k in itertools.count():
            taken.append(k)
            yield k

    results = threads.ahead(lambda k: k * k, items(), most=4)
    for k in range(50):
        assert next(results) == k * k
        assert len(taken) <= k + 4
    results.close()
    assert len(taken) <= 54


def test_ahead_hands_on_what_is_raised_after_all_that_came_before(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "2")
    seen = []

    def take():
        for result in threads.ahead(lambda k: 60 // (5 - k), range(10)):
            seen.append(result)

    with pytest.raises(ZeroDivisionError):
        take()
    assert seen == [12, 15, 20, 30, 60]
    assert list(threads.ahead(len, [])) == []


def test_each_does_not_wait_for_a_pool_that_others_keep_busy(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "2")
    free, busy = threading.Event(), threading.Barrier(3)

    def keep_busy(_):
        busy.wait(60)
        free.wait(60)

    others = threading.Thread(target=lambda: list(threads.ahead(keep_busy, range(2))))
    others.start()
    try:
        busy.wait(60)  # both threads of the pool are taken
        assert threads.each(lambda k: k * k, list(range(20))) == [k * k for k in range(20)]
    finally:
        free.set()
        others.join()


def test_each_takes_every_item_once_whoever_works(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "3")
    taken = collections.Counter()

    def take(k):
        taken[k] += 1
        time.sleep(0)
        return -k

    for _ in range(50):
        assert threads.each(take, list(range(40))) == [-k for k in range(40)]
    assert set(taken.values()) == {50}


def test_each_raises_what_one_met_begins_no_more_and_is_usable_after(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "2")
    taken = []

    def take(k):
        taken.append(k)
        return 60 // (3 - k)

    with pytest.raises(ZeroDivisionError):
        threads.each(take, list(range(1000)))
    assert len(taken) < 1000
    assert threads.each(lambda k: sum(threads.each(lambda j: j + k, [1, 2])), [0, 1]) == [3, 5]


def test_ahead_inside_the_pool_waits_for_nobody(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "2")
    sums = threads.each(lambda k: sum(threads.ahead(lambda j: j + k, range(20))), list(range(8)))
    assert sums == [190 + 20 * k for k in range(8)]
