"""Metrics by name: what a pipeline measures by default, what fits its trainer, and what is said where it does not."""

from __future__ import annotations

import pytest

import mlflow_core as ml
from mlflow_core.errors import SpecError
from mlflow_core.spec.metric import DEFAULT_METRICS, METRICS, parse_metric, task_of, tasks_of
from mlflow_core.spec.pipeline import TrainingPipeline

ONE_QUANTILE = ml.XGBoost(objective="reg:quantileerror", quantiles=(0.5,))
FAMILY_OF_ONE = ml.Family(
    trainer=ml.Torch(module=ml.MLP(), objective="quantile", quantiles=(0.5,)), by=("a",)
)


def pipeline(trainer: object, **more: object) -> TrainingPipeline:
    source = ml.ParquetSource(
        "flights", path="flights.parquet", event_time="at", known_at="known", event_id="id"
    )
    carrier = ml.Entity("carrier")
    view = ml.FeatureView("delays", entity=carrier, source=source, features=["delay"], ttl="1h")
    data = ml.Dataset(
        features=ml.FeatureService("model", [view]),
        spine=ml.Spine(source, at="at - interval '2 hours'"),
        label=ml.Label("delay > 15", known_at="known"),
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01"),
    )
    return ml.TrainingPipeline("late", data=data, trainer=trainer, **more)


@pytest.mark.parametrize(
    ("trainer", "task"),
    [
        (ml.XGBoost(), "classification"),
        (ml.XGBoost(objective="multi:softprob", classes=3), "multiclass"),
        (ml.XGBoost(objective="reg:tweedie"), "regression"),
        (ml.XGBoost(objective="count:poisson"), "regression"),
        (ml.XGBoost(objective="reg:quantileerror", quantiles=(0.1, 0.5)), "quantile"),
        (ml.XGBoost(objective="rank:pairwise", group="query"), "ranking"),
        (ml.XGBoost(objective="survival:cox"), "survival"),
        (ml.Torch(module=ml.MLP(), objective="regression"), "regression"),
        (ml.Torch(module=ml.Autoencoder(), objective="reconstruction"), "anomaly"),
        (ml.Sklearn(estimator="sklearn.svm:SVC"), "classification"),
    ],
)
def test_a_pipeline_measures_what_its_trainer_predicts(trainer: object, task: str) -> None:
    made = pipeline(trainer)

    assert task_of(trainer) == task
    assert made.evaluate == DEFAULT_METRICS[task]
    assert pipeline(trainer, evaluate=DEFAULT_METRICS[task]).canonical_json() == made.canonical_json()


def test_the_default_of_a_binary_label_is_left_out_of_the_canonical_json() -> None:
    assert b"evaluate" not in pipeline(ml.XGBoost()).canonical_json()


@pytest.mark.parametrize("trainer", [ONE_QUANTILE, FAMILY_OF_ONE])
def test_one_quantile_is_measured_by_its_loss_alone(trainer: object) -> None:
    assert pipeline(trainer).evaluate == ("pinball",)


@pytest.mark.parametrize("family", [False, True])
def test_a_retrieval_is_refused_where_it_is_declared_since_no_query_is_named(family: bool) -> None:
    trainer = ml.Torch(module=ml.TwoTower(left=("a",), right=("b",)), objective="retrieval")

    with pytest.raises(SpecError, match=r"not for a pipeline.*train it with train.fit"):
        pipeline(ml.Family(trainer=trainer, by=("a",)) if family else trainer)


def test_a_logistic_regression_is_refused_beside_what_predicts_no_classes() -> None:
    with pytest.raises(SpecError, match=r'predicts classes.*the task "quantile".*compare with Rate\(\)'):
        pipeline(ONE_QUANTILE, baselines=[ml.LogisticRegression()])
    many = ml.Family(trainer=ml.XGBoost(objective="multi:softprob", classes=3), by=("a",))
    assert len(pipeline(many, baselines=[ml.LogisticRegression(), ml.Rate()]).baselines) == 2


def test_every_default_metric_measures_its_task() -> None:
    for task, metrics in DEFAULT_METRICS.items():
        assert all(task in tasks_of(metric) for metric in metrics)
    assert {task for tasks in METRICS.values() for task in tasks} == set(DEFAULT_METRICS)


def test_names_with_a_k_are_read() -> None:
    assert parse_metric("ndcg@10") == ("ndcg", 10)
    assert parse_metric("ndcg") == ("ndcg", None)
    assert parse_metric("precision@250") == ("precision", 250)


@pytest.mark.parametrize(
    ("metric", "trainer", "message"),
    [
        (
            "auc",
            ml.XGBoost(objective="reg:squarederror"),
            '"auc" does not measure a model of the task "regression"',
        ),
        ("ndcg@10", ml.XGBoost(), "these do: auc, average_precision, log_loss"),
        ("ndgc@10", ml.XGBoost(), 'Did you mean "ndcg"'),
        ("precision", ml.XGBoost(), 'needs to know of how many rows, e.g. "precision@100"'),
        ("brier@2", ml.XGBoost(), 'is not a metric: write "brier"'),
        ("crossing", ONE_QUANTILE, "needs at least two quantiles, and the trainer has one"),
        ("coverage_error", FAMILY_OF_ONE, "needs at least two quantiles"),
        ("map@ten", ml.XGBoost(), "its k is a whole number above 0"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_where_it_is_declared(
    metric: str, trainer: object, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        pipeline(trainer, evaluate=[metric])
