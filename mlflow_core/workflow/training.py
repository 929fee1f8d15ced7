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

from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.metadata import DatasetRecord, Metric
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import ClockName, Trainer, TrainingPipeline
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train import TrainContext, fit
from mlflow_core.train.evaluation.baselines import check_baselines, fit_baseline
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.evaluation.gate import GateResult, judge
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.models.model import Model
from mlflow_core.train.report.card import CARD_FILES
from mlflow_core.train.report.drawing import why_not_drawn
from mlflow_core.train.search.result import SearchResult
from mlflow_core.workflow.champion import CHAMPION, champion_of
from mlflow_core.workflow.clocks import ClockComparison, compare_clocks, other_clocks
from mlflow_core.workflow.dataset import StoredDataset
from mlflow_core.workflow.journal import Journal, RunRecorder, environment
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.reporting import Measured, write_run_report
from mlflow_core.workflow.searching import search_settings
from mlflow_core.workflow.training_folder import training_folder
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Trained", "run_pipeline"]

RESAMPLES = 1000

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
    fresh: bool = False
    profile: bool = False
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

    def search(self, dataset: StoredDataset) -> SearchResult | None:
        """Look for better settings, if the pipeline asks for it."""
        if self.spec.search is None:
            return None
        with self.journal.step("search") as note:
            found = search_settings(
                self.spec,
                dataset,
                self._context(self.draft / "search", RunRecorder(self.journal, prefix="search.", step=note)),
                settings=self.workspace.settings,
                metadata=self.workspace.metadata,
                run_id=self.journal.run_id,
            )
            path = self.draft / "search.json"
            path.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
            self.journal.keep(path.name, path, note)
        self.warnings += found.notes
        return found

    def _context(self, workdir: Path, recorder: RunRecorder) -> TrainContext:
        return TrainContext(
            workdir=workdir,
            client=self.client,
            recorder=recorder,
            progress=self.progress,
            cache=self.workspace.layouts.folder,
            profile=self.profile,
        )

    def train(self, dataset: StoredDataset, trainer: Trainer, step: str, prefix: str = "") -> Model:
        place = training_folder(self.workspace.trainings, trainer, dataset.artifact.digest, fresh=self.fresh)
        with self.journal.step(step) as note, place as folder:
            if folder.begun:
                self.warnings.append("a training that was interrupted went on from its last checkpoint")
            recorder = RunRecorder(self.journal, prefix=prefix, step=note)
            model = fit(trainer, dataset.data, self._context(folder.path, recorder))
            manifest = dataset.manifest
            return model.with_metadata(
                service=self.spec.data.features.name,
                clock=manifest["clock"],
                dataset=dataset.artifact.digest,
                fingerprints=dict(manifest["fingerprints"]),
                run=self.journal.run_id,
            )


def run_pipeline(
    workspace: Workspace,
    name: str,
    *,
    clock: ClockName | None = None,
    compare: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    profile: bool = False,
) -> Trained:
    """Run a training pipeline.

    Args:
        workspace: The project.
        name: The pipeline.
        clock: Which events the features see; by default the dataset's own.
        compare: Also train under the other clocks and say what each pretends.
        client: The cluster that trains; None trains in this process.
        progress: Who is told.
        fresh: Whether to train anew where the same training was interrupted, instead of from its last checkpoint.
        profile: Whether to record where the training's time goes.

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
        run = _Run(workspace, spec, clock, client, journal, progress, draft, fresh, profile)
        return _steps(run, compare=compare)


def _steps(run: _Run, *, compare: bool) -> Trained:
    journal, spec = run.journal, run.spec
    dataset, record = run.dataset(run.clock, "dataset")
    run.workspace.metadata.use_dataset(journal.run_id, record.id)
    champion = champion_of(run.workspace, spec, dataset, run.draft / CHAMPION)
    found = run.search(dataset)
    trainer = spec.trainer if found is None else found.trainer
    model = run.train(dataset, trainer, "train")
    measured = _evaluate(run, dataset, model, champion)
    clocks = _clocks(run, dataset, trainer, model) if compare else None
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
        for card in CARD_FILES:
            journal.keep(card, path.with_name(card), note)
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


def _evaluate(run: _Run, dataset: StoredDataset, model: Model, champion: Model | None) -> Measured:
    spec, data, journal = run.spec, dataset.data, run.journal
    with journal.step("evaluate") as note:
        test = data.read("test")
        truth = truth_of(spec.trainer, test, data.label, outputs=model.outputs)
        predictions: dict[str, Floats] = {spec.model: model.predict(test)}
        if champion is not None:
            predictions[CHAMPION] = champion.predict(test)
        for baseline in spec.baselines:
            fitted = fit_baseline(baseline, data, spec.trainer)
            predictions[fitted.name] = fitted.predict(test)
        evaluation = evaluate(
            truth,
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
    return Measured(test, truth, predictions, evaluation, CHAMPION if champion is not None else None)


def _record_scores(recorder: RunRecorder, model: str, evaluation: Evaluation) -> None:
    scores = [
        (f"test.{metric}" if one == model else f"test.{metric}.{one}", evaluation.score(metric, one))
        for metric in evaluation.metrics
        for one in evaluation.models
    ]
    recorder.intervals(Metric(name, told.value, 0, told.low, told.high) for name, told in scores)


def _clocks(run: _Run, dataset: StoredDataset, trainer: Trainer, model: Model) -> ClockComparison:
    deployed: ClockName = dataset.manifest["clock"]
    others: dict[ClockName, tuple[StoredDataset, Model]] = {}
    for clock in other_clocks(run.spec.data, deployed):
        built, _ = run.dataset(clock, f"dataset_{clock}")
        others[clock] = (built, run.train(built, trainer, f"train_{clock}", prefix=f"{clock}."))
    with run.journal.step("compare_clocks") as note:
        found = compare_clocks(
            trainer,
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
