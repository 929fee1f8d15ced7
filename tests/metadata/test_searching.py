"""Finding runs by params and metrics: what is found, in which order, and what is not a number."""

from __future__ import annotations

import math

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import UsageError
from mlflow_core.metadata import Bound, MetadataStore
from tests.metadata.conftest import HandClock

AUCS = {"a": 0.6, "b": 0.9, "c": math.nan, "d": 0.7, "e": math.inf, "f": None, "g": 0.9}


@pytest.fixture
def runs(store: MetadataStore, clock: HandClock) -> dict[str, str]:
    """Name -> id; each run begins after the one before it."""
    found = {}
    for number, (name, auc) in enumerate(AUCS.items()):
        clock.us += 1
        run = store.create_run("even" if number % 2 == 0 else "odd")
        store.log_params(run.id, {"depth": number % 3, "name": name})
        if auc is not None:
            store.log_metrics(run.id, {"auc": 0.99}, step=1)
            store.log_metrics(run.id, {"auc": auc}, step=2)
        found[name] = run.id
    return found


def names(store: MetadataStore, **asked: object) -> str:
    found = store.list_runs(**asked)  # type: ignore[arg-type]
    params = store.params_of_runs(run.id for run in found)
    return "".join(params[run.id]["name"] for run in found)


def test_without_a_question_all_are_found_as_they_are_listed(
    store: MetadataStore, runs: dict[str, str]
) -> None:
    assert names(store) == "gfedcba"
    assert names(store, limit=3, offset=1) == "fed"
    assert len(runs) == len(AUCS)


@pytest.mark.parametrize(
    ("bound", "found"),
    [
        (Bound("auc", ">", 0.6), "gedb"),
        (Bound("auc", ">=", 0.6), "gedba"),
        (Bound("auc", "<", 0.9), "da"),
        (Bound("auc", "<=", 0.9), "gdba"),
        (Bound("auc", "=", 0.9), "gb"),
        (Bound("nothing", ">", 0), ""),
    ],
)
@pytest.mark.usefixtures("runs")
def test_the_last_step_must_be_within_the_bound(store: MetadataStore, bound: Bound, found: str) -> None:
    assert names(store, metrics=[bound]) == found


@pytest.mark.usefixtures("runs")
def test_they_are_ordered_by_a_metric_that_is_a_number_and_the_newest_first_of_equal_ones(
    store: MetadataStore,
) -> None:
    assert names(store, order_by="auc") == "egbda"
    assert names(store, order_by="auc", ascending=True) == "adgbe"
    assert names(store, order_by="auc", limit=2, offset=1) == "gb"


@pytest.mark.usefixtures("runs")
def test_everything_that_is_asked_has_to_hold(store: MetadataStore) -> None:
    bounds = [Bound("auc", ">", 0.6), Bound("auc", "<", 1)]
    assert names(store, metrics=bounds, order_by="auc", ascending=True) == "dgb"
    assert names(store, params={"depth": 0}) == "gda"
    assert names(store, params={"depth": "0"}) == ""
    assert names(store, params={"depth": 0}, pipeline="even", metrics=bounds) == "g"
    assert names(store, state="succeeded") == ""


@pytest.mark.usefixtures("runs")
def test_what_is_asked_is_a_value_and_never_a_part_of_the_statement(store: MetadataStore) -> None:
    for odd in ("auc'; DROP TABLE mlcore_runs; --", 'auc" DESC', "1=1) --"):
        assert store.list_runs(order_by=odd) == []
        assert store.list_runs(params={odd: odd}, metrics=[Bound(odd, ">", 0)]) == []
    assert names(store) == "gfedcba"
    with pytest.raises(UsageError, match=r'not compared by "; DELETE".*> >= < <= ='):
        store.list_runs(metrics=[Bound("auc", "; DELETE", 0)])  # type: ignore[arg-type]
    for no_number in ("high", None, math.nan):
        with pytest.raises(UsageError, match=f"not compared with {no_number!r}"):
            store.list_runs(metrics=[Bound("auc", ">", no_number)])  # type: ignore[arg-type]


def test_lists_that_ask_the_same_have_values_of_their_own(store: MetadataStore, runs: dict[str, str]) -> None:
    for depth, found in ((0, "gda"), (1, "eb"), (2, "fc")):
        assert names(store, params={"depth": depth}) == found
        assert names(store, params={"depth": depth, "name": found[0]}) == found[0]
        assert names(store, params={"depth": depth}, limit=1, offset=1) == found[1]
    for metric, above, found in (("auc", 0.7, "gb"), ("auc", 0.65, "gbd"), ("none", 0.0, "")):
        bounds = [Bound(metric, ">", above), Bound("auc", "<", 1)]
        assert names(store, metrics=bounds, order_by="auc") == found
    store.finish_run(runs["b"], "succeeded")
    store.finish_run(runs["c"], "failed")
    assert (names(store, state="succeeded"), names(store, state="failed")) == ("b", "c")
    assert (names(store, pipeline="odd"), names(store, pipeline="even")) == ("fdb", "geca")


def test_another_project_finds_nothing(store: MetadataStore, url: str, runs: dict[str, str]) -> None:
    with MetadataStore(url, HandClock(), Principal("bob"), project="other") as other:
        assert other.list_runs() == []
        assert other.list_runs(metrics=[Bound("auc", ">", 0)], order_by="auc") == []
        assert other.params_of_runs(runs.values()) == {run_id: {} for run_id in runs.values()}
    assert store.params_of_runs([runs["a"]]) == {runs["a"]: {"depth": 0, "name": "a"}}
