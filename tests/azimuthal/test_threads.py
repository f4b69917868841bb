"""The pool for array work: the order of results, and how far it works ahead."""

import itertools

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


def test_ahead_inside_the_pool_waits_for_nobody(monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "2")
    sums = threads.each(lambda k: sum(threads.ahead(lambda j: j + k, range(20))), list(range(8)))
    assert sums == [190 + 20 * k for k in range(8)]
