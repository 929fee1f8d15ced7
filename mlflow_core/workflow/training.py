"""Run a training pipeline: dataset, training, evaluation, gate, report, registration, each recorded as a step.

What each step does is in ``engine``, ``train`` and ``metadata``; here is the order, and what is written down.
Nothing is registered unless the gate holds, and the report is kept whether it holds or not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.engine.dataset.estimate import rows_of_dataset
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.engine.route import choose_route
from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata import DatasetRecord, Metric
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import ClockName, TrainingPipeline
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train import fit
from mlflow_core.train.baselines import check_baselines, fit_baseline
from mlflow_core.train.evaluate import Evaluation, evaluate
from mlflow_core.train.gate import GateResult, judge
from mlflow_core.train.model import Model
from mlflow_core.train.plots import why_not_drawn
from mlflow_core.workflow.clocks import ClockComparison, compare_clocks, other_clocks
from mlflow_core.workflow.dataset import StoredDataset, build_dataset, plan_of
from mlflow_core.workflow.erasure import check_dataset
from mlflow_core.workflow.journal import Journal, RunRecorder, environment
from mlflow_core.workflow.reporting import Measured, write_run_report
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Trained", "build_for_pipeline", "run_pipeline"]

RESAMPLES = 1000
CHAMPION = "champion"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        run_id: The run.
        model: The registered model's name.
        version: Its new version.
        alias: The alias that points at it now.
        dataset: What it was trained on.
        evaluation: How it did on the test part, beside its baselines.
        gate: What the gate found, or None without one.
        clocks: What the other clocks say, if that was asked for.
        report: The report, one HTML file; a copy of the artifact under a name that browsers know.
        seconds: How long each step took.
        warnings: What a person should know.
    """

    run_id: str
    model: str
    version: int
    alias: str
    dataset: StoredDataset
    evaluation: Evaluation
    gate: GateResult | None
    clocks: ClockComparison | None
    report: Path
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass
class _Run:
    """One run while it runs."""

    workspace: Workspace
    spec: TrainingPipeline
    clock: ClockName | None
    client: Client | None
    journal: Journal
    progress: Progress
    draft: Path
    warnings: list[str] = field(default_factory=list)

    def dataset(self, clock: ClockName | None, step: str) -> tuple[StoredDataset, DatasetRecord]:
        with self.journal.step(step) as note:
            stored, record = build_for_pipeline(
                self.workspace, self.spec, clock=clock, client=self.client, progress=self.progress
            )
            note.output_digest = stored.artifact.digest
            self.journal.note(step, stored.artifact, note)
        self.warnings += [warning for warning in stored.warnings if warning not in self.warnings]
        return stored, record

    def train(self, dataset: StoredDataset, step: str, prefix: str = "") -> Model:
        with self.journal.step(step) as note:
            model = fit(
                self.spec.trainer,
                dataset.data,
                client=self.client,
                workdir=self.draft / step,
                recorder=RunRecorder(self.journal, prefix=prefix, step=note),
                progress=self.progress,
            )
            manifest = dataset.manifest
            return model.with_metadata(
                service=self.spec.data.features.name,
                clock=manifest["clock"],
                dataset=dataset.artifact.digest,
                fingerprints=dict(manifest["fingerprints"]),
                run=self.journal.run_id,
            )


def build_for_pipeline(
    workspace: Workspace,
    spec: TrainingPipeline,
    *,
    clock: ClockName | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> tuple[StoredDataset, DatasetRecord]:
    """Build a pipeline's training set, store it and register it by its content.

    Args:
        workspace: The project.
        spec: The pipeline; the columns of its slices are carried along.
        clock: Which events the features see; by default the dataset's own.
        client: A cluster for large retrievals; small ones run in this process anyway.
        progress: Who is told.

    Returns:
        The dataset and its record; the same recipe over the same sources gives the same ones.

    Raises:
        PlanError: The dataset does not fit its sources.
        SourceError: A source cannot be read, or a check does not hold.
        TrainError: Nothing is left to train on.
    """
    erasures = workspace.erasures
    plan = plan_of(spec.data, workspace.base, clock=clock, carry=spec.slices, erasures=erasures)
    route = choose_route(
        plan.retrieval,
        rows_of_dataset(plan, base=workspace.base),
        base=workspace.base,
        client=client,
        workdir=workspace.workdir,
        worth_a_cluster=workspace.settings.cluster.worth_from,
        cache=workspace.layouts,
    )
    stored = build_dataset(
        plan,
        base=workspace.base,
        artifacts=workspace.artifacts,
        workdir=workspace.workdir,
        name=spec.name,
        route=route,
        progress=progress,
    )
    manifest = stored.manifest
    record = workspace.metadata.register_dataset(
        spec.name,
        stored.artifact.digest,
        schema=manifest["schema"],
        rows=manifest["rows"],
        clock=manifest["clock"],
        split=manifest["split"],
        source_snapshot=stored.sources,
        spec_fingerprint=fingerprint(spec.data.features),
        artifact_digest=stored.artifact.digest,
        uri=stored.artifact.uri,
        report={
            "left_out": manifest["left_out"],
            "parts": manifest["parts"],
            "checks": manifest["checks"],
            "warnings": list(plan.warnings),
        },
    )
    check_dataset(record, workspace.erasures.since(erasures), workspace.metadata, workspace.artifacts)
    return stored, record


def run_pipeline(
    workspace: Workspace,
    name: str,
    *,
    clock: ClockName | None = None,
    compare: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Run a training pipeline.

    Args:
        workspace: The project.
        name: The pipeline.
        clock: Which events the features see; by default the dataset's own.
        compare: Also train under the other clocks and say what each pretends.
        client: The cluster that trains; None trains in this process.
        progress: Who is told.

    Returns:
        The registered model and everything that was measured.

    Raises:
        UnknownNameError: There is no such pipeline.
        GateFailed: The gate does not hold; the run, its figures and its report are kept, nothing is registered.
        TrainError: The data or the settings cannot be trained with, or a baseline's library is not installed.
    """
    spec = workspace.pipeline(name)
    check_baselines(spec.baselines)
    progress = progress or SilentProgress()
    workspace.metadata.end_lost_runs()
    run_id = workspace.metadata.create_run(
        name, pipeline_fingerprint=fingerprint(spec), seed=spec.trainer.seed, environment=environment()
    ).id
    journal = Journal(workspace.metadata, workspace.artifacts, run_id, progress)
    with journal.whole(), draft_folder(workspace.workdir, "run") as draft:
        run = _Run(workspace, spec, clock, client, journal, progress, draft)
        return _steps(run, compare=compare)


def _steps(run: _Run, *, compare: bool) -> Trained:
    journal, spec = run.journal, run.spec
    dataset, record = run.dataset(run.clock, "dataset")
    run.workspace.metadata.use_dataset(journal.run_id, record.id)
    model = run.train(dataset, "train")
    measured = _evaluate(run, dataset, model)
    clocks = _clocks(run, dataset, model) if compare else None
    gate = _gate(spec, measured)
    if (why := why_not_drawn()) is not None:
        run.warnings.append(f"the report has no plots: {why}")
    with journal.step("report") as note:
        path = write_run_report(
            run.draft / "report.html",
            spec=spec,
            dataset=dataset,
            model=model,
            measured=measured,
            gate=gate,
            clocks=clocks,
            facts={"run": journal.run_id},
        )
        kept = journal.keep(path.name, path, note)
        note.output_digest = kept.digest
        shown = run.workspace.reports / f"{spec.name}-{journal.run_id}.html"
        shown.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, shown)
    if gate is not None:
        with journal.step("gate"):
            gate.raise_if_failed(spec.model)
    version = _register(run, dataset, record, model, measured.evaluation, gate)
    return Trained(
        run_id=journal.run_id,
        model=spec.model,
        version=version,
        alias=spec.alias,
        dataset=dataset,
        evaluation=measured.evaluation,
        gate=gate,
        clocks=clocks,
        report=shown,
        seconds={name: step.seconds for name, step in journal.steps.items()},
        warnings=tuple(run.warnings),
    )


def _evaluate(run: _Run, dataset: StoredDataset, model: Model) -> Measured:
    spec, data, journal = run.spec, dataset.data, run.journal
    with journal.step("evaluate") as note:
        test = data.read("test")
        y = test[data.label].cast(pa.float64()).to_numpy()
        predictions: dict[str, Floats] = {spec.model: model.predict(test)}
        champion = _champion(run)
        if champion is not None:
            predictions[CHAMPION] = champion.predict(test)
        for baseline in spec.baselines:
            fitted = fit_baseline(baseline, data)
            predictions[fitted.name] = fitted.predict(test)
        evaluation = evaluate(
            y,
            predictions,
            spec.evaluate,
            test.select(list(spec.slices)) if spec.slices else None,
            times=test[data.time_column].cast(pa.int64()).to_numpy(),
            count=RESAMPLES,
            seed=spec.trainer.seed,
            progress=run.progress,
        )
        _record_scores(RunRecorder(journal, step=note), spec.model, evaluation)
        path = run.draft / "evaluation.json"
        path.write_bytes(orjson.dumps(evaluation.to_json()))
        journal.keep(path.name, path, note)
    return Measured(test, y, predictions, evaluation, CHAMPION if champion is not None else None)


def _record_scores(recorder: RunRecorder, model: str, evaluation: Evaluation) -> None:
    scores = [
        (f"test.{metric}" if one == model else f"test.{metric}.{one}", evaluation.score(metric, one))
        for metric in evaluation.metrics
        for one in evaluation.models
    ]
    recorder.intervals(Metric(name, told.value, 0, told.low, told.high) for name, told in scores)


def _champion(run: _Run) -> Model | None:
    """Load the champion if the gate asks for it and there is one."""
    gate = run.spec.gate
    if gate is None or gate.better_than != "champion":
        return None
    try:
        version = run.workspace.metadata.resolve_model(f"{run.spec.model}@{CHAMPION}")
    except UnknownNameError:
        return None
    return Model.load(run.workspace.artifacts.fetch_tree(version.artifact_digest, run.draft / CHAMPION))


def _clocks(run: _Run, dataset: StoredDataset, model: Model) -> ClockComparison:
    deployed: ClockName = dataset.manifest["clock"]
    others: dict[ClockName, tuple[StoredDataset, Model]] = {}
    for clock in other_clocks(run.spec.data, deployed):
        built, _ = run.dataset(clock, f"dataset_{clock}")
        others[clock] = (built, run.train(built, f"train_{clock}", prefix=f"{clock}."))
    with run.journal.step("compare_clocks") as note:
        found = compare_clocks(
            (deployed, dataset, model),
            others,
            run.spec.gate.metric if run.spec.gate else run.spec.evaluate[0],
            count=RESAMPLES,
            seed=run.spec.trainer.seed,
            progress=run.progress,
        )
        path = run.draft / "clocks.json"
        path.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
        run.journal.keep(path.name, path, note)
    return found


def _gate(spec: TrainingPipeline, measured: Measured) -> GateResult | None:
    if spec.gate is None:
        return None
    baselines = [name for name in measured.evaluation.models if name not in (spec.model, CHAMPION)]
    return judge(spec.gate, measured.evaluation, champion=measured.champion, baselines=baselines)


def _register(
    run: _Run,
    dataset: StoredDataset,
    record: DatasetRecord,
    model: Model,
    evaluation: Evaluation,
    gate: GateResult | None,
) -> int:
    spec, metadata = run.spec, run.workspace.metadata
    with run.journal.step("register") as note:
        artifact = run.journal.keep("model", model.save(run.draft / "model"), note)
        note.output_digest = artifact.digest
        scores = {metric: evaluation.score(metric).value for metric in evaluation.metrics}
        evidence = gate.to_json() if gate is not None else {"scores": scores}
        why = f"run {run.journal.run_id} passed its gate" if gate else f"run {run.journal.run_id}, no gate"
        version = metadata.register_model_version(
            spec.model,
            run.journal.run_id,
            artifact.digest,
            scores,
            _signature(dataset, model, spec),
            artifact_uri=artifact.uri,
            dataset_id=record.id,
            tags={"clock": dataset.manifest["clock"], "pipeline": spec.name},
            alias=spec.alias,
            why=why,
            evidence=evidence,
        )
    return version.version


def _signature(dataset: StoredDataset, model: Model, spec: TrainingPipeline) -> dict[str, Any]:
    schema: Mapping[str, str] = dataset.manifest["schema"]
    return {
        "service": spec.data.features.name,
        "features": {name: schema[name] for name in model.features},
        "request": list(model.request),
        "label": model.label,
        "fingerprints": dict(dataset.manifest["fingerprints"]),
    }
