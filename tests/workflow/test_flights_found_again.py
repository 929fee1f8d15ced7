"""The flagship's own pipeline on a month of real flights: what a second run finds, and what a change runs again.

Beside it stands a second pipeline that reads other views of the same sources: whatever changes for the one alone is
nothing to the other.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.story import call
from tests.flagship import copied, prepare
from tests.workflow.projects import edit

STEPS = ("dataset", "train", "evaluate", "report", "gate", "register")
CALM_STEPS = ("dataset", "train", "evaluate", "report", "register")
WEEKS = (("2013-09-17", "2013-10-05"), ("2013-10-28", "2013-11-06"))

SERVICE = '''"""What the sky and the hour of the day say, whoever flies."""

import mlflow_core as ml
from feature_repo.delays import hour_delay, origin_now
from feature_repo.weather import weather

sky_model = ml.FeatureService("sky_model", [weather, hour_delay, origin_now[["origin_departures_3h"]]])
'''
PIPELINE = '''"""Late by weather alone: a second, small model of the same flights."""

import mlflow_core as ml
from feature_repo.sky import sky_model
from feature_repo.sources import flights

late_by_sky = ml.TrainingPipeline(
    "late_by_sky",
    data=ml.Dataset(
        features=sky_model,
        spine=ml.Spine(flights, at="scheduled_departure - interval '2 hours'"),
        label=ml.Label("arr_delay > 15", known_at="outcome_known", name="late"),
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01", embargo="1d"),
    ),
    trainer=ml.XGBoost(rounds=5, max_depth=3, seed=1),
    evaluate=["auc"],
)
'''


@pytest.fixture(scope="module")
def trained(repository, tmp_path_factory):
    """The project with both pipelines run once, and the runs."""
    prepared = tmp_path_factory.mktemp("prepared")
    prepare(repository, prepared)
    root = copied(repository, prepared, tmp_path_factory.mktemp("flights") / "project", *WEEKS)
    (root / "feature_repo" / "sky.py").write_text(SERVICE)
    (root / "pipelines" / "late_by_sky.py").write_text(PIPELINE)
    # A month of flights teaches less than nine.
    edit(root / "pipelines" / "late_arrival.py", 'at_least={"auc": 0.65}', 'at_least={"auc": 0.6}')
    runs = {name: train(root, name) for name in ("late_arrival", "late_by_sky")}
    assert [one["found"] for one in runs.values()] == [[], []]
    return root, {name: one["run"] for name, one in runs.items()}


@pytest.fixture
def project(trained, tmp_path):
    """A copy of what was trained, with all that was written down of it."""
    root = shutil.copytree(trained[0], tmp_path / "moved")
    return root, trained[1]


def train(root, pipeline, *, by=call):
    """``mlcore train``."""
    return mlcore(root, "train", pipeline, "--in-process", by=by)


def mlcore(root, *words, by=call):
    code, out, err = by("--root", str(root), "--json", *words)
    assert code == 0, err
    return json.loads(out)


def call_apart(*words):
    """Run a command in a process of its own, where texts have other hashes."""
    typed = [sys.executable, "-m", "mlflow_core.cli", *words]
    done = subprocess.run(typed, capture_output=True, text=True, check=False, timeout=280)
    return done.returncode, done.stdout, done.stderr


def reasons(root, run):
    """What ``mlcore runs why`` says: of each step whether its output was found, and what had changed."""
    told = mlcore(root, "runs", "why", run)
    assert told["run"] == run
    return {one["step"]: one for one in told["steps"]}


def assert_found(root, run, origin, steps):
    """No step was run, and each says whose output it took."""
    told = reasons(root, run)
    assert set(told) == set(steps)
    assert {(one["hit"], one["against"], one["reason"]) for one in told.values()} == {
        (True, origin, f"its output was made in run {origin}")
    }


def changed(reason):
    return {(one["part"], one["name"]) for one in reason["changed"]}


def test_the_second_run_does_no_work_in_another_process_and_another_folder(project):
    root, first = project

    again = train(root, "late_arrival", by=call_apart)
    sky = train(root, "late_by_sky")

    assert (set(again["found"]), set(sky["found"])) == (set(STEPS), set(CALM_STEPS))
    assert (again["version"], again["alias"]) == (1, "champion")
    assert_found(root, again["run"], first["late_arrival"], STEPS)
    assert_found(root, sky["run"], first["late_by_sky"], CALM_STEPS)
    assert len(mlcore(root, "models", "list")) == 2
    assert len(list((root / ".mlcore" / "artifacts" / "users").iterdir())) == 1


def test_a_changed_window_runs_what_reads_its_view_and_nothing_of_the_other_pipeline(project):
    root, first = project
    edit(
        root / "feature_repo" / "delays.py",
        'over="28d", name="route_late_28d"',
        'over="21d", name="route_late_28d"',
    )

    again, sky = train(root, "late_arrival"), train(root, "late_by_sky")

    assert_found(root, sky["run"], first["late_by_sky"], CALM_STEPS)
    told = reasons(root, again["run"])
    assert set(told) == set(STEPS)
    assert again["found"] == []
    assert {one["against"] for one in told.values()} == {first["late_arrival"]}
    assert changed(told["dataset"]) == {
        ("features", "view route_delay"),
        ("features", "service delay_model"),
    }
    assert told["dataset"]["reason"] == "features: service delay_model; features: view route_delay"
    assert told["train"]["reason"] == "inputs: dataset"
    assert changed(told["evaluate"]) == {("inputs", "dataset"), ("inputs", "train")}
    assert again["version"] == 2


def test_edited_comments_docstrings_and_places_run_nothing(project):
    root, first = project
    delays, services = root / "feature_repo" / "delays.py", root / "feature_repo" / "services.py"
    edit(delays, "# is it getting better or worse?", "# the hour before that")
    edit(delays, "OPS = ", "\n# Whom to ask.\n\nOPS = ")
    edit(services, '"""What the booking itself says."""', '"""What the passenger knows."""  # and no more')
    pipeline = root / "pipelines" / "late_arrival.py"
    edit(pipeline, "late_arrival = ml.", "# The flagship.\nlate_arrival = ml.")

    again, sky = train(root, "late_arrival"), train(root, "late_by_sky")

    assert_found(root, again["run"], first["late_arrival"], STEPS)
    assert_found(root, sky["run"], first["late_by_sky"], CALM_STEPS)


def test_one_changed_row_of_a_source_runs_everything_from_the_dataset_on_where_it_is_read(project):
    root, first = project
    give_more_seats(root / "feature_repo" / "data")

    again, sky = train(root, "late_arrival"), train(root, "late_by_sky")

    assert_found(root, sky["run"], first["late_by_sky"], CALM_STEPS)
    told = reasons(root, again["run"])
    assert (told["dataset"]["reason"], told["dataset"]["against"]) == (
        "data: plane_list",
        first["late_arrival"],
    )
    assert {name for name, one in told.items() if not one["hit"]} >= {
        "dataset",
        "train",
        "evaluate",
        "report",
    }
    assert changed(told["train"]) == {("inputs", "dataset")}


def give_more_seats(data):
    """Change one value of one row: the seats of the aircraft that flew most in these weeks."""
    flights = pq.read_table(data / "flights.parquet", columns=["tailnum"])
    counts = flights["tailnum"].drop_null().value_counts().to_pylist()
    planes = pq.read_table(data / "planes.parquet")
    listed = planes["tailnum"].to_pylist()
    flown = [one for one in counts if one["values"] in listed]
    row = listed.index(max(flown, key=lambda one: (one["counts"], one["values"]))["values"])
    seats = planes["seats"].to_pylist()
    seats[row] += 200
    place = planes.column_names.index("seats")
    seated = planes.set_column(place, "seats", pa.array(seats, planes["seats"].type))
    pq.write_table(seated, data / "planes.parquet")
