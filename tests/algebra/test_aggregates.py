"""The aggregates as folds: against the naive truth, merged in any order, and typed."""

from __future__ import annotations

import math
from random import Random

import pyarrow as pa
import pytest

from mlflow_core.algebra.aggregates import aggregate_of, empty_value, output_type
from mlflow_core.errors import PlanError
from mlflow_core.spec import Agg, Function
from tests.oracle.features import aggregated, agrees

VALUES = {
    pa.float64(): [0.1, 0.2, -0.3, 0.0, 1e17, -1e17, 1e300, -1.7e308, 1.7e308, math.inf, -math.inf, 2.5],
    pa.int64(): [0, 1, -5, 2**53 + 1, 2**55],
    pa.bool_(): [True, False],
    pa.string(): ["", "a", "b", "é"],
}
ANY = ["count", "count_distinct", "min", "max", "first", "last", "first(2)", "last(3)"]
NUMBERS = ["sum", "mean", "std", "var", "quantile(0.3)"]
FUNCTIONS = {
    pa.float64(): [*ANY, *NUMBERS],
    pa.int64(): [*ANY, *NUMBERS],
    pa.bool_(): [*ANY, "sum", "mean"],
    pa.string(): ANY,
}
CASES = [(function, kind) for kind, functions in FUNCTIONS.items() for function in functions]


def parsed(text: str) -> Function:
    return Agg("x", text, over="1h").columns("v")[0].function


def folded(aggregate, events):
    state = aggregate.init
    for order, value in events:
        state = aggregate.update(state, value, order)
    return state


def events_of(random: Random, kind: pa.DataType, n: int):
    return [
        ((random.randint(0, 5), random.randint(0, 3), row), random.choice(VALUES[kind])) for row in range(n)
    ]


@pytest.mark.parametrize(("text", "kind"), CASES, ids=lambda one: str(one))
def test_a_fold_over_events_in_any_order_and_any_cut_gives_the_truth(text, kind):
    random = Random(f"{text} {kind}")
    function = parsed(text)
    aggregate = aggregate_of(function, kind)
    for n in [0, 1, 1, 2, 2, 3, 5, 9, 20] * 5:
        events = events_of(random, kind, n)
        truth = aggregated(function, [value for _, value in sorted(events, key=lambda event: event[0])])
        cut = random.randint(0, n)
        parts = folded(aggregate, events[:cut]), folded(aggregate, events[cut:])

        for state in (folded(aggregate, events), aggregate.merge(*parts), aggregate.merge(*reversed(parts))):
            answer = aggregate.finish(state)
            assert agrees(truth, answer, squared=function.name == "std"), (events, answer, truth)


def test_no_events_count_zero_and_are_null_otherwise():
    for text, kind in CASES:
        assert aggregate_of(parsed(text), kind).finish(aggregate_of(parsed(text), kind).init) == empty_value(
            parsed(text)
        )


def test_a_huge_value_that_left_leaves_no_trace_in_a_merge_of_what_stayed():
    mean = aggregate_of(Function("mean"), pa.float64())
    tenths = folded(mean, [((i, 0, i), 0.1) for i in range(1000)])

    assert mean.finish(tenths) == pytest.approx(0.1, rel=1e-12)
    assert mean.finish(mean.merge(tenths, mean.init)) == mean.finish(tenths)


def test_a_sum_of_integers_that_overflows_is_an_error_and_one_that_comes_back_is_not():
    total = aggregate_of(Function("sum"), pa.int64())
    biggest = 2**63 - 1
    over = folded(total, [((0, 0, 0), biggest), ((0, 0, 1), 1)])

    with pytest.raises(OverflowError):
        total.finish(over)
    assert total.finish(total.update(over, -1, (0, 0, 2))) == biggest
    assert total.finish(folded(total, [((0, 0, 0), -(2**63))])) == -(2**63)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("count", None, pa.int64()),
        ("count_distinct", pa.string(), pa.int64()),
        ("sum", pa.int32(), pa.int64()),
        ("sum", pa.bool_(), pa.int64()),
        ("sum", pa.float32(), pa.float64()),
        ("mean", pa.int64(), pa.float64()),
        ("quantile(0.5)", pa.int64(), pa.float64()),
        ("min", pa.string(), pa.string()),
        ("max", pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC")),
        ("last", pa.list_(pa.int64()), pa.list_(pa.int64())),
        ("last(2)", pa.string(), pa.list_(pa.string())),
        ("min", pa.dictionary(pa.int32(), pa.string()), pa.string()),
    ],
)
def test_results_have_the_type_that_the_rules_give(text, kind, expected):
    assert output_type(parsed(text) if kind is not None else Function(text), kind, title="v") == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mean", pa.string()),
        ("sum", pa.timestamp("us")),
        ("min", pa.list_(pa.int64())),
        ("count_distinct", pa.map_(pa.string(), pa.string())),
    ],
)
def test_a_function_that_does_not_apply_to_a_type_is_refused_by_name(text, kind):
    with pytest.raises(PlanError, match=rf'FeatureView "v": {text} does not apply to a column of type'):
        output_type(parsed(text), kind, title='FeatureView "v"')
