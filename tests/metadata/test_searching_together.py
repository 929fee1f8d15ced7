"""Everything that a list may be asked, in every combination, against looking at every run."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_core.config import Principal
from mlflow_core.errors import UsageError
from mlflow_core.metadata import Bound, MetadataStore
from tests.metadata.conftest import HandClock
from tests.oracle.lists import KnownRun, listed

_PROJECTS = count()

PARAMS = st.dictionaries(st.sampled_from(["depth", "value", "name"]), st.sampled_from([1, 2, "1", True]))
NUMBERS = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf])
METRICS = st.dictionaries(st.sampled_from(["auc", "value"]), NUMBERS | st.just(math.nan))
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["late", "early"]),
        st.sampled_from(["running", "succeeded"]),
        PARAMS,
        METRICS,
        st.booleans(),
    ),
    max_size=6,
)
ASKED = st.fixed_dictionaries(
    {
        "params": PARAMS,
        "metrics": st.lists(
            st.builds(
                Bound,
                st.sampled_from(["auc", "value"]),
                st.sampled_from([">", ">=", "<", "<=", "="]),
                NUMBERS,
            ),
            max_size=3,
        ),
        "order_by": st.sampled_from([None, "auc", "value", "none"]),
        "ascending": st.booleans(),
        "limit": st.integers(0, 7),
        "offset": st.integers(0, 2),
        "pipeline": st.sampled_from([None, "late", "early"]),
        "state": st.sampled_from([None, "running", "succeeded"]),
    }
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS, asked=st.lists(ASKED, min_size=1, max_size=8))
def test_a_list_is_what_looking_at_every_run_finds(
    url: str, clock: HandClock, runs: list[Any], asked: list[dict[str, Any]]
) -> None:
    # Runs of the examples before are another project's.
    with MetadataStore(url, clock, Principal("ada"), project=f"p{next(_PROJECTS)}") as store:
        known = [_known(store, clock, *run) for run in runs]
        for question in asked:
            assert [run.id for run in store.list_runs(**question)] == listed(known, **question)


def _known(
    store: MetadataStore,
    clock: HandClock,
    pipeline: str,
    state: str,
    params: dict[str, Any],
    metrics: dict[str, float],
    later: bool,
) -> KnownRun:
    clock.us += later
    run = store.create_run(pipeline)
    store.log_params(run.id, params)
    store.log_metrics(run.id, metrics)
    if state == "succeeded":
        store.finish_run(run.id, state)
    return KnownRun(run.id, run.created_us, pipeline, state, params, metrics)


def test_numbers_of_runs_are_whole_and_states_are_known(store: MetadataStore) -> None:
    run = store.create_run("late")
    assert [one.id for one in store.list_runs(limit=np.int64(3), offset=np.int32(0))] == [run.id]  # type: ignore[arg-type]
    for wrong in ({"limit": -1}, {"limit": None}, {"limit": 2**63}, {"offset": -1}, {"offset": 0.5}):
        with pytest.raises(UsageError, match="a whole number from 0"):
            store.list_runs(**wrong)
    with pytest.raises(UsageError, match="pending, running, succeeded"):
        store.list_runs(state="ended")
