"""The example of the machines with a second pipeline that reads other features, and steps of a user's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline

FEATURES = """

wear = ml.FeatureView(
    "wear",
    entity=machine,
    source=readings,
    features=[ml.Agg("temperature", "max", over="7d"), ml.Agg("vibration", "mean", over="7d")],
    availability=ml.Every("1h", delay="5m"),
)

machine_wear = ml.FeatureService("machine_wear", [wear])
"""

PIPELINES = '''"""Two pipelines on two services, one of them with steps of its own."""

from machines.features import machine, machine_health, machine_wear, readings
from machines.steps import busiest, summary

import mlflow_core as ml

SPLIT = ml.TimeSplit(train_until="2024-02-20", validate_until="2024-03-01", embargo="1d")


def pipeline(name, service, **more):
    return ml.TrainingPipeline(
        name,
        data=ml.Dataset(
            features=service,
            spine=ml.Spine(readings, at="read_at + interval '2 hours'"),
            label=ml.Label(aggregate=ml.Agg("broke", "max", over="3d"), entity=machine, name="breaks"),
            split=SPLIT,
        ),
        trainer=ml.XGBoost(rounds=8, max_depth=3, seed=1),
        evaluate=["auc"],
        **more,
    )


breakdown = pipeline("breakdown", machine_health, steps=[busiest(top=3), summary()])
worn = pipeline("worn", machine_wear)
'''

STEPS = '''"""Steps of a user's own."""

import pyarrow as pa

import mlflow_core as ml

FACTOR = 2


def doubled(number):
    """Twice as much."""
    return number * FACTOR


@ml.step
def busiest(dataset: pa.Table, *, top: int = 5) -> pa.Table:
    """The machines with most rows."""
    counts = dataset.group_by("machine").aggregate([("machine", "count")])
    return counts.sort_by([("machine_count", "descending"), ("machine", "ascending")]).slice(0, top)


@ml.step
def summary(busiest: pa.Table, evaluation: dict) -> dict:
    return {"rows": doubled(busiest.num_rows), "task": evaluation["task"]}
'''


def enlarge(machines: Path) -> Path:
    """Give the example its second pipeline and its steps."""
    features = machines / "machines" / "features.py"
    features.write_text(features.read_text() + FEATURES)
    (machines / "training" / "breakdown.py").write_text(PIPELINES)
    (machines / "machines" / "steps.py").write_text(STEPS)
    return machines


def edit(file: Path, before: str, after: str) -> None:
    """Change a declaration."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def change_one_row(file: Path, **written: object) -> None:
    """Change one value of one row of a Parquet file, written by these options."""
    table = pq.read_table(file)
    values = table["vibration"].to_pylist()
    values[len(values) // 2] += 1.0
    place = table.column_names.index("vibration")
    pq.write_table(
        table.set_column(place, "vibration", pa.array(values, table["vibration"].type)), file, **written
    )


def train(root: Path, *pipelines: str):
    """Run pipelines as the project declares them now; by pipeline what each run gave."""
    workspace = open_workspace(root)
    try:
        return {name: run_pipeline(workspace, name) for name in pipelines}
    finally:
        workspace.metadata.close()
