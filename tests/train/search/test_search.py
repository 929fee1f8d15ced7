"""A search in one process: what is tried, what ends early, what fails, what is found, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pytest

from mlflow_core.errors import SpecError, TrainError
from mlflow_core.spec.search import Choice, CrossValidation, Float, Int, LogFloat, Search
from mlflow_core.spec.trainer import Family, Sklearn, XGBoost
from mlflow_core.train import TrainContext
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.pool import Slot
from mlflow_core.train.search.cross_validation import cut_folds
from mlflow_core.train.search.run import plan_search
from mlflow_core.train.search.storage import open_storage
from mlflow_core.train.search.trial import TrialProgram
from tests.train import made
from tests.train.search.searched import SPACE, TRAINER, Mirror, outcomes, search, settings_of, small_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return small_set(tmp_path_factory.mktemp("data"))


def _retrained(settings: XGBoost, data: TrainingData, folder: Path) -> tuple[float, np.ndarray]:
    model = made.fit(settings, data, workdir=folder, threads=1)
    values = next(iter(model.history.values()))
    return values[model.best if model.best is not None else -1], model.predict(data.read("validate"))


def test_the_best_trial_is_the_trainer_that_reaches_its_value_again(
    data: TrainingData, tmp_path: Path
) -> None:
    result = search(Search(trials=6, space=SPACE, pruner=None), data, tmp_path)

    values = [trial.value for trial in result.trials]
    assert [trial.state for trial in result.trials] == ["succeeded"] * 6
    assert result.best.value == min(values)
    assert result.study.metric == "logloss"
    assert result.study.direction == "minimize"
    assert result.trainer.max_depth == result.best.settings["max_depth"]
    assert result.trainer.params == {"gamma": result.best.settings["params.gamma"]}
    assert result.trainer.rounds == TRAINER.rounds
    again, _ = _retrained(result.trainer, data, tmp_path / "again")
    assert again == pytest.approx(result.best.value, rel=1e-12)
    assert set(result.importance) == set(SPACE)
    assert sum(result.importance.values()) == pytest.approx(1.0)
    written = {name: getattr(TRAINER, name) for name in ("max_depth", "learning_rate")}
    assert all({name: one[name] for name in written} != written for one in settings_of(result))


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(
    data: TrainingData, tmp_path: Path
) -> None:
    settings = Search(trials=7, space=SPACE, seed=5)

    one, two = (search(settings, data, tmp_path / name) for name in ("one", "two"))
    other = search(settings.model_copy(update={"seed": 6}), data, tmp_path / "other")

    assert outcomes(one) == outcomes(two)
    assert len({json.dumps(dict(one), sort_keys=True) for one in settings_of(one)}) == 7
    assert settings_of(other) != settings_of(one)
    assert "pruned" in {trial.state for trial in one.trials}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes"])
def test_a_search_in_two_parts_is_the_search_in_one(data: TrainingData, tmp_path: Path, sampler: str) -> None:
    # 12 trials: past those that TPE and GP draw at random first
    space = {"max_depth": Int(1, 3), "learning_rate": LogFloat(0.05, 0.5)}
    whole = Search(trials=12, space=space, sampler=sampler, pruner="median")
    trainer = TRAINER.model_copy(update={"rounds": 4})

    in_one = search(whole, data, tmp_path / "one", trainer=trainer)
    search(whole.model_copy(update={"trials": 11}), data, tmp_path / "two", trainer=trainer)
    in_two = search(whole, data, tmp_path / "two", trainer=trainer)

    assert outcomes(in_two) == outcomes(in_one)


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_trials_that_do_badly_end_early_and_the_best_is_not_among_them(
    data: TrainingData, tmp_path: Path, pruner: str
) -> None:
    # Learning rates that differ by orders: after a few rounds of stumps it is plain which are bad.
    rates = [0.3, 0.1, 0.25, 0.2, 0.35, 0.0001, 0.0002, 0.0003, 0.0004, 0.0005]
    start = [{"learning_rate": rate} for rate in rates]
    settings = Search(trials=10, space={"learning_rate": Choice(rates)}, pruner=pruner, start=start)

    result = search(settings, data, tmp_path, trainer=TRAINER.model_copy(update={"max_depth": 1}))

    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(max(trial.values) < TRAINER.rounds for trial in pruned)
    assert all(trial.value == trial.values[max(trial.values)] for trial in pruned)
    assert "did badly after step" in str(pruned[0].reason)
    assert {trial.number for trial in pruned} & {5, 6, 7, 8, 9}
    assert result.best.settings["learning_rate"] >= 0.1


def test_a_metric_of_ours_is_measured_on_the_validation_rows(data: TrainingData, tmp_path: Path) -> None:
    result = search(Search(trials=3, space=SPACE, metric="average_precision", pruner=None), data, tmp_path)

    _, predictions = _retrained(result.trainer, data, tmp_path / "again")
    labels = data.read("validate").column("label").to_numpy().astype(float)
    assert result.study.direction == "maximize"
    assert result.best.value == pytest.approx(measure("average_precision", labels, predictions), rel=1e-6)
    assert result.best.value == max(trial.value for trial in result.trials)


def test_a_metric_of_xgboosts_with_a_number_is_maximised(data: TrainingData, tmp_path: Path) -> None:
    trainer = TRAINER.model_copy(update={"metric": "ams@0.15", "rounds": 6})
    start = [{"learning_rate": 1e-6}, {"learning_rate": 0.5}]
    space = {"learning_rate": LogFloat(1e-6, 0.5)}

    result = search(Search(trials=2, space=space, start=start, pruner=None), data, tmp_path, trainer=trainer)

    assert (result.study.metric, result.study.direction) == ("ams@0.15", "maximize")
    values = [trial.value for trial in result.trials]
    assert values[0] != values[1]
    assert result.best.value == max(values)


def test_folds_judge_a_trial_by_their_mean(data: TrainingData, tmp_path: Path) -> None:
    validation = CrossValidation(folds=2, embargo="1d")
    result = search(
        Search(trials=2, space={"max_depth": Int(2, 3)}, validation=validation, pruner=None), data, tmp_path
    )

    assert not (
        tmp_path / "work" / "folds"
    ).exists()  # copies of rows, which no cleaning of a cache would find
    folds = cut_folds(data, validation, TrainContext(workdir=tmp_path / "folds"))
    values = [_retrained(result.trainer, fold, tmp_path / f"f{n}")[0] for n, fold in enumerate(folds)]
    assert result.best.value == pytest.approx(np.mean(values), rel=1e-12)


def test_a_driver_that_may_not_run_a_study_leaves_its_trials_alone(
    data: TrainingData, tmp_path: Path
) -> None:
    running = tmp_path / "work" / "trials" / "of-the-other-driver"
    running.mkdir(parents=True)

    with (
        open_storage(tmp_path / "studies" / "study.sqlite", "study"),
        pytest.raises(TrainError, match="is being run by another process"),
    ):
        search(Search(trials=1, space=SPACE), data, tmp_path)

    assert running.is_dir()


def test_a_second_attempt_of_a_trial_never_shares_the_folder_of_the_first(
    data: TrainingData, tmp_path: Path
) -> None:
    plan = plan_search(TRAINER, Search(trials=1, space=SPACE))
    program = TrialProgram(
        TRAINER, (data,), plan.judge, plan.also, plan.looks.at, tmp_path / "trials", tmp_path / "cache"
    )
    seen: list[int] = []

    def second() -> bool:
        if not seen:
            (first,) = program.workdir.iterdir()
            seen.append(0)
            program(Slot(1, lambda _: None, lambda: bool(seen.append(len(list(program.workdir.iterdir()))))))
            assert list(program.workdir.iterdir()) == [first]
        return False

    program(Slot(1, lambda _: None, second))

    assert set(seen[1:]) == {2}
    assert list(program.workdir.iterdir()) == []


def test_first_settings_are_tried_first(data: TrainingData, tmp_path: Path) -> None:
    start = ({"max_depth": 2, "learning_rate": 0.25, "params.gamma": 1.5}, {"max_depth": 5})

    result = search(Search(trials=3, space=SPACE, start=start, pruner=None), data, tmp_path)

    assert settings_of(result)[0] == start[0]
    assert settings_of(result)[1]["max_depth"] == 5
    again = search(Search(trials=4, space=SPACE, start=start, pruner=None), data, tmp_path)
    assert settings_of(again)[:3] == settings_of(result)
    assert settings_of(again)[3] not in start


def test_settings_that_were_tried_are_not_trained_with_again(data: TrainingData, tmp_path: Path) -> None:
    result = search(Search(trials=5, space={"max_depth": Int(2, 3)}, pruner=None), data, tmp_path)

    again = [trial for trial in result.trials if "the settings of trial" in str(trial.reason)]
    assert len(again) >= 3
    assert all(trial.facts["seconds"] == 0 and trial.attempts == 0 for trial in again)
    by_depth = {(trial.settings["max_depth"], trial.value) for trial in result.trials}
    assert len(by_depth) <= 2


def test_conditions_rule_out_trials_before_and_after_training(data: TrainingData, tmp_path: Path) -> None:
    space = {"max_depth": Int(1, 6), "learning_rate": LogFloat(0.02, 0.5)}
    free = search(Search(trials=8, space=space, pruner=None), data, tmp_path / "free")
    limit = sorted(trial.value for trial in free.trials)[2]
    settings = Search(
        trials=8, space=space, pruner=None, constraints=("max_depth <= 4", f"value >= {limit}", "auc > 0.2")
    )

    result = search(settings, data, tmp_path / "held")

    deep = [trial for trial in result.trials if trial.settings["max_depth"] > 4]
    assert deep
    assert all(trial.state == "pruned" and "max_depth <= 4" in str(trial.reason) for trial in deep)
    assert result.best.settings["max_depth"] <= 4
    assert result.best.value >= limit
    assert result.best.feasible
    with pytest.raises(TrainError, match=r'keeps all conditions. The nearest misses "auc > 0.9999" by 0\.'):
        search(settings.model_copy(update={"constraints": ("auc > 0.9999",)}), data, tmp_path / "never")


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_others_go_on(
    data: TrainingData, tmp_path: Path
) -> None:
    space = {"params.grow_policy": Choice(["depthwise", "sideways"]), "max_depth": Int(2, 6)}

    result = search(Search(trials=6, space=space, sampler="random", pruner=None), data, tmp_path)

    failed = [trial for trial in result.trials if trial.settings["params.grow_policy"] == "sideways"]
    assert 0 < len(failed) < 6
    assert all(
        trial.state == "failed" and "the settings are refused" in str(trial.reason) for trial in failed
    )
    assert result.best.settings["params.grow_policy"] == "depthwise"
    with pytest.raises(TrainError, match=r"none of 2 trials reached its end; .*the settings are refused"):
        search(Search(trials=2, space={"params.gamma": Float(-2, -1)}), data, tmp_path / "all", name="all")


def test_a_search_stops_when_its_time_is_up_and_goes_on_from_there(
    data: TrainingData, tmp_path: Path
) -> None:
    settings = Search(trials=500, space=SPACE, within="2s", sampler="random", pruner=None)

    first = search(settings, data, tmp_path)
    second = search(
        settings.model_copy(update={"within": None, "trials": len(first.trials) + 1}), data, tmp_path
    )

    assert 0 < len(first.trials) < 500
    assert "the time of 2s was up" in first.notes[-1]
    # One that was proposed when the time was up is still to be run.
    ended = sum(trial.state != "running" for trial in first.trials)
    assert len(first.trials) - ended <= 1
    assert outcomes(second)[:ended] == outcomes(first)[:ended]
    assert {trial.state for trial in second.trials} == {"succeeded"}
    assert len(second.trials) == len(first.trials) + 1
    assert second.notes == ()


def test_finished_trials_are_mirrored_once_over_all_parts_of_a_search(
    data: TrainingData, tmp_path: Path
) -> None:
    mirror = Mirror()
    settings = Search(trials=3, space=SPACE)

    search(settings, data, tmp_path, recorder=mirror)
    result = search(settings.model_copy(update={"trials": 5}), data, tmp_path, recorder=mirror)

    assert mirror.numbers == [0, 1, 2, 3, 4]
    assert tuple(mirror.trials) == result.trials
    assert [study.name for study in mirror.studies] == ["study", "study"]
    assert mirror.studies[0].space["max_depth"] == {"kind": "int", "low": 1, "high": 6, "log": False}
    assert mirror.trials[0].started_us <= mirror.trials[0].ended_us


def test_a_study_of_something_else_is_not_gone_on_with(data: TrainingData, tmp_path: Path) -> None:
    settings = Search(trials=1, space=SPACE)
    search(settings, data, tmp_path)

    with pytest.raises(TrainError, match='Study "study": was begun with another space and another seed'):
        search(settings.model_copy(update={"seed": 1, "space": {"max_depth": Int(1, 3)}}), data, tmp_path)
    with pytest.raises(TrainError, match="was begun with another trainer"):
        search(settings, data, tmp_path, trainer=TRAINER.model_copy(update={"l2": 3.0}))
    with pytest.raises(TrainError, match="was begun with another data"):
        search(settings, small_set(tmp_path / "data", features=("delay", "gust")), tmp_path)


def test_one_driver_runs_a_study_at_a_time(data: TrainingData, tmp_path: Path) -> None:
    with (
        open_storage(tmp_path / "studies" / "study.sqlite", "study"),
        pytest.raises(TrainError, match='Study "study": is being run by another process'),
    ):
        search(Search(trials=1, space=SPACE), data, tmp_path)
    assert len(search(Search(trials=1, space=SPACE), data, tmp_path).trials) == 1


def test_the_state_is_optunas_own(data: TrainingData, tmp_path: Path) -> None:
    result = search(Search(trials=3, space=SPACE, pruner=None), data, tmp_path)

    study = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/studies/study.sqlite")

    assert [trial.params for trial in study.trials] == settings_of(result)
    assert study.best_trial.number == result.best.number
    assert not list((tmp_path / "work" / "trials").iterdir())


def test_a_result_is_told_as_text_and_as_json(data: TrainingData, tmp_path: Path) -> None:
    result = search(Search(trials=5, space=SPACE, parallel=3), data, tmp_path)

    text, told = result.describe(), json.loads(json.dumps(result.to_json()))

    assert text.startswith('study "study": 5 trials, ')
    assert f"best: trial {result.best.number}, logloss " in text
    assert "note: there is no cluster, so trials run one after the other" in text
    assert told["best"] == result.best.number
    assert [one["state"] for one in told["trials"]] == [trial.state for trial in result.trials]
    assert XGBoost(**told["trainer"]) == result.trainer


def test_trainers_without_rounds_are_searched_too(data: TrainingData, tmp_path: Path) -> None:
    family = Family(trainer=TRAINER, by=("carrier",), least_rows=50)
    estimator = Sklearn(estimator="sklearn.tree:DecisionTreeClassifier", arguments={"max_depth": 3})
    numbers = small_set(tmp_path / "numbers", features=("gust", "late", "hour"))

    of_family = search(
        Search(trials=2, space={"trainer.max_depth": Int(1, 4)}),
        data,
        tmp_path,
        trainer=family,
        name="family",
    )
    of_tree = search(
        Search(trials=3, space={"arguments.max_depth": Int(1, 5)}, metric="log_loss"),
        numbers,
        tmp_path,
        trainer=estimator,
        name="tree",
    )

    assert of_family.study.metric == of_tree.study.metric.replace("log_loss", "auc") == "auc"
    assert "no steps to look at, so no trial ends early" in of_family.notes[0]
    assert of_tree.trainer.arguments["max_depth"] == of_tree.best.settings["arguments.max_depth"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (Search(space=SPACE, metric="log_los"), SpecError, 'Did you mean "log_loss"'),
        (Search(space=SPACE, metric="rmsle"), SpecError, '"rmsle" is not a metric'),
        (Search(space=SPACE, metric="pinball"), SpecError, 'does not measure the task "classification"'),
        (Search(space=SPACE, constraints=("depth <= 3",)), SpecError, 'names "depth"'),
        (Search(space={"depth": Int(1, 2)}), SpecError, '"depth" is not a setting of XGBoost'),
    ],
)
def test_what_cannot_be_searched_is_told_before_data_or_storage_are_touched(
    tmp_path: Path, settings: Search, error: type[Exception], message: str
) -> None:
    nowhere = TrainingData(shards={"train": (tmp_path / "none.parquet",)}, label="label", features=("delay",))

    with pytest.raises(error, match=message):
        search(settings, nowhere, tmp_path)
    assert not (tmp_path / "studies").exists()


def test_a_storage_that_cannot_be_used_is_told(data: TrainingData, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_text("this is no database, but long enough to be taken for one" * 40)

    with pytest.raises(TrainError, match='Study "study": the study\'s storage cannot be used'):
        search(Search(trials=1, space=SPACE), data, tmp_path, storage=broken)
    with pytest.raises(TrainError, match='studies cannot be kept in "mysql"'):
        search(Search(trials=1, space=SPACE), data, tmp_path, storage="mysql://somewhere/x")


def test_a_row_that_is_not_measurable_fails_trials_and_not_the_process(tmp_path: Path) -> None:
    one_class = made.table(200, 5)
    one_class = one_class.set_column(one_class.column_names.index("label"), "label", pa.array([False] * 200))
    data = made.write(
        tmp_path / "data",
        {"train": [made.table(300, 1)], "validate": [one_class], "test": [made.table(9, 2)]},
    )

    with pytest.raises(TrainError, match=r"none of 2 trials reached its end.*has no positive"):
        search(Search(trials=2, space=SPACE), data, tmp_path)
