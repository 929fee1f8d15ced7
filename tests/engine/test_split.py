"""Parts and reasons against the loops of the oracle."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.engine.dataset.split import REASONS, assign_parts
from mlflow_core.plan.dataset import PARTS, Cuts
from tests.oracle import labels as oracle

TIMES = st.integers(min_value=0, max_value=40)


@given(
    rows=st.lists(st.tuples(TIMES, st.integers(0, 15), st.booleans(), st.booleans()), max_size=60),
    train_until=st.integers(5, 20),
    validate=st.integers(1, 12),
    test=st.one_of(st.none(), st.integers(1, 10)),
    embargo=st.integers(0, 8),
)
def test_every_row_is_where_the_oracle_puts_it(rows, train_until, validate, test, embargo):
    validate_until = train_until + validate
    test_until = None if test is None else validate_until + test
    cuts = Cuts(
        train_until=train_until, validate_until=validate_until, test_until=test_until, embargo=embargo
    )
    t = np.array([row[0] for row in rows], dtype=np.int64)
    known = t + np.array([row[1] for row in rows], dtype=np.int64)
    valid = np.array([row[2] for row in rows], dtype=bool)
    settled = np.array([row[3] for row in rows], dtype=bool)

    found = assign_parts(t, known, valid, cuts, settled=settled)

    places = [PARTS[p] if p >= 0 else REASONS[r] for p, r in zip(found.part, found.reason, strict=True)]
    assert places == [
        oracle.place(
            int(t[i]),
            1.0 if valid[i] else None,
            int(known[i]),
            train_until=train_until,
            validate_until=validate_until,
            test_until=test_until,
            embargo=embargo,
            settled=bool(settled[i]),
        )
        for i in range(len(rows))
    ]
    assert sum(found.rows().values()) + sum(found.left_out().values()) == len(rows)


def test_a_label_known_exactly_an_embargo_before_the_cut_is_kept_and_one_microsecond_later_is_not():
    cuts = Cuts(train_until=100, validate_until=200, test_until=None, embargo=10)

    found = assign_parts(np.array([50, 50, 50]), np.array([90, 91, 101]), np.ones(3, bool), cuts)

    assert found.part.tolist() == [0, -1, -1]
    assert [REASONS[reason] for reason in found.reason[1:]] == ["embargo", "label_unknown_at_cut"]
