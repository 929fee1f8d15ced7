"""Where a window's events lie and what stands at its ends, beside plain loops."""

from __future__ import annotations

from itertools import chain
from random import Random

import numpy as np
import pytest

from mlflow_core.engine.kernels.ranges import at_end, count_seen, listed, reached
from mlflow_core.engine.times import EARLIEST, NEVER


@pytest.mark.parametrize("seed", range(20))
def test_a_position_is_reached_as_searchsorted_says(seed):
    random = Random(seed)
    sizes = [random.choice([0, 1, 2, 7, 400]) for _ in range(4)]
    asked = [random.choice([0, 1, 30]) for _ in range(4)]
    times = [sorted(random.randint(0, 50) for _ in range(size)) for size in sizes]
    until = [
        sorted(random.choice([EARLIEST, NEVER, random.randint(-2, 52)]) for _ in range(n)) for n in asked
    ]
    event_from, row_from = np.cumsum([0, *sizes]), np.cumsum([0, *asked])

    found = reached(
        event_from, np.array(list(chain(*times)), np.int64), row_from, np.array(list(chain(*until)), np.int64)
    )

    expected = [
        event_from[key] + np.searchsorted(times[key], one, side="right")
        for key in range(4)
        for one in until[key]
    ]
    assert found.tolist() == [int(one) for one in expected]


@pytest.mark.parametrize("newest", [True, False])
def test_ends_counts_and_lists_are_those_of_the_seen_events(newest):
    random = Random(11)
    n, rows, most = 60, 200, 3
    start = np.array([random.choice([0, 0, 5, 9]) for _ in range(n)])
    end = np.array([random.choice([NEVER, NEVER, 6]) for _ in range(n)])
    edges = np.sort(np.array([[random.randint(0, n) for _ in range(rows)] for _ in range(2)]), axis=0)
    low, high, at = edges[0], edges[1], np.array([random.randint(0, 10) for _ in range(rows)])
    seen = [[i for i in range(low[row], high[row]) if start[i] <= at[row] < end[i]] for row in range(rows)]
    cut = [(one[-most:] if newest else one[:most]) for one in seen]

    single, enough = at_end(low, high, start, end, at, newest, 10**6)
    counts, also = count_seen(low, high, start, end, at, most, newest, 10**6)
    offset = np.cumsum([0, *counts])
    places = listed(low, high, start, end, at, False, newest, offset)

    assert enough
    assert also
    assert single.tolist() == [(one[-1 if newest else 0] if one else -1) for one in seen]
    assert counts.tolist() == [len(one) for one in cut]
    assert places.tolist() == list(chain(*cut))


def test_a_walk_over_too_many_hidden_events_gives_up():
    n = 1_000
    given = (
        np.zeros(2, np.int64),
        np.full(2, n),
        np.full(n, 100),
        np.full(n, NEVER),
        np.full(2, 50),
    )

    assert at_end(*given, True, n)[1] is False
    assert count_seen(*given, 5, True, n)[1] is False
    assert at_end(*given, True, 3 * n)[0].tolist() == [-1, -1]
