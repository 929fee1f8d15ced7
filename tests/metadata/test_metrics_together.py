"""Batches of metrics of which some share a name, a time or an interval, against a plain dictionary."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_core.metadata import MetadataStore, Metric
from tests.metadata.conftest import NOON

ENDS = st.sampled_from([None, None, None, 0.0, -0.0, 0.25])
METRICS = st.builds(
    Metric,
    name=st.sampled_from(["auc", "loss", "\u00fcber", "it's ?1 :1"]),
    value=st.sampled_from([0.0, -0.0, 1.5, math.inf]) | st.floats(allow_nan=False),
    step=st.integers(-3, 60),
    low=ENDS,
    high=ENDS,
    at_us=st.sampled_from([None, None, 0, 7, 2**62]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(METRICS, max_size=130) | st.lists(METRICS, min_size=50, max_size=130), max_size=3
    )
)
def test_what_batches_leave_is_what_a_dictionary_would_have(
    store: MetadataStore, batches: list[list[Metric]]
) -> None:
    run = store.create_run("late")
    kept: dict[tuple[str, int], Metric] = {}
    for batch in batches:
        store.log_metrics(run.id, batch)
        for one in batch:
            at_us = NOON if one.at_us is None else one.at_us
            kept[one.name, one.step] = Metric(one.name, one.value, one.step, one.low, one.high, at_us)
    assert {(one.name, one.step): one for one in store.get_metrics(run.id)} == kept
    last = {name: max(step for other, step in kept if other == name) for name, _ in kept}
    assert store.latest_metrics([run.id])[run.id] == {name: kept[name, step] for name, step in last.items()}
