"""Train everything in this example, and say which model won on the same rows, by how much, within which interval."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

import mlflow_core as ml
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.training import Trained, run_pipeline
from mlflow_core.workflow.workspace import Workspace

HERE = Path(__file__).parent
RIVALS = ("trees", "network", "recurrent")


def trained(workspace: Workspace, name: str) -> tuple[Trained, Model, pa.Table]:
    """A pipeline's run, its model and its test part."""
    run = run_pipeline(workspace, name)
    version = workspace.metadata.resolve_model(f"{name}:{run.version}")
    folder = workspace.artifacts.fetch_tree(version.artifact_digest, workspace.workdir / f"model-{name}")
    return run, Model.load(folder), run.dataset.data.read("test")


def rivals(workspace: Workspace) -> Evaluation:
    """All models of late arrivals on the same flights."""
    predictions, tests = {}, {}
    for name in RIVALS:
        run, model, test = trained(workspace, name)
        test = test.sort_by([("event_timestamp", "ascending"), ("flight_id", "ascending")])
        tests[name], predictions[name] = test, model.predict(test)
        print(f"{name}: trained in {run.seconds['train']:.0f} s, report {run.report}")
    first = tests[RIVALS[0]]
    for name in RIVALS[1:]:
        if not tests[name]["flight_id"].equals(first["flight_id"]):
            raise SystemExit(f"{name} was tested on other flights")
    return evaluate(
        first["late"].cast(pa.float64()).to_numpy(),
        predictions,
        ["auc", "log_loss"],
        times=first["event_timestamp"].cast(pa.int64()).to_numpy(),
        count=300,
    )


def said(found: Evaluation) -> list[str]:
    """Who won, by each metric, and by how much over each of the others."""
    lines = []
    for metric in found.metrics:
        order = sorted(
            found.models, key=lambda name: found.score(metric, name).value, reverse=metric == "auc"
        )
        best = order[0]
        lines.append(f"{metric}: {best} wins with {found.score(metric, best).value:.4f}")
        for other in order[1:]:
            gain = found.difference(metric, best, other)
            sure = "" if gain.low > 0 else ", which may be chance"
            value = found.score(metric, other).value
            lines.append(
                f"  {other} {value:.4f}: {gain.value:.4f} worse (95 %: {gain.low:.4f} to {gain.high:.4f}){sure}"
            )
    return lines


def main() -> None:
    """Train and compare."""
    workspace = ml.load(HERE).workspace
    print("\n".join(said(rivals(workspace))))
    hours, _, _ = trained(workspace, "unusual_hour")
    auc = hours.evaluation.score("auc")
    print(
        f"unusual hours: trouble within three hours is told with AUC {auc.value:.3f} "
        f"(95 %: {auc.low:.3f} to {auc.high:.3f}) by a network that was never told of trouble"
    )


if __name__ == "__main__":
    main()
