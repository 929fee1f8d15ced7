"""The steps at the end: the report, the gate, and the registration, which is the one that changes the world outside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from mlflow_core.metadata import MetadataStore
from mlflow_core.spec import TrainingPipeline
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.gate import GateResult, judge
from mlflow_core.train.models.model import Model
from mlflow_core.train.report.card import CARD_FILES
from mlflow_core.train.report.drawing import why_not_drawn
from mlflow_core.workflow.champion import CHAMPION
from mlflow_core.workflow.dataset import StoredDataset
from mlflow_core.workflow.graph import Node, NodeContext, Output
from mlflow_core.workflow.reporting import write_run_report
from mlflow_core.workflow.training.measuring import CLOCKS, measured_by, read_clocks, read_evaluation
from mlflow_core.workflow.training.recipe import DATASET, EVALUATE, TRAIN, Recipe

__all__ = [
    "GATE",
    "REGISTER",
    "REPORT",
    "REPORT_FILE",
    "gate_node",
    "judged",
    "moved_by_hand",
    "register_node",
    "report_node",
]

REPORT, GATE, REGISTER = "report", "gate", "register"
REPORT_FILE = "report.html"
_BY_RUN = "run"  # in the evidence of every move that a run made


def report_node(recipe: Recipe, *, clocks: bool) -> Node:
    """The step that writes the report and the model's card.

    Args:
        recipe: The run.
        clocks: Whether other clocks were compared.
    """
    spec = recipe.spec
    params = {
        "pipeline": spec.name,
        "model": spec.model,
        "description": spec.description,
        "owner": spec.owner,
        "metrics": list(spec.evaluate),
        "gate": _gate_settings(spec),
        "trainer": recipe.trainer_settings,
        "service": spec.data.features.name,
    }
    needs = (DATASET, TRAIN, EVALUATE, *((CLOCKS,) if clocks else ()))
    key = recipe.key(REPORT, params=params, code=recipe.trainer_code)
    return Node(REPORT, needs, key, partial(_report, recipe))


def gate_node(recipe: Recipe) -> Node:
    """The step that fails where the model is not good enough; the report is written before."""
    params = {"gate": _gate_settings(recipe.spec), "model": recipe.spec.model}
    return Node(GATE, (EVALUATE,), recipe.key(GATE, params=params), partial(_gate, recipe), after=(REPORT,))


def register_node(recipe: Recipe, *, after: tuple[str, ...]) -> Node:
    """The step that registers the model and points its alias at it.

    Args:
        recipe: The run.
        after: All steps that have to have ended well before.
    """
    spec = recipe.spec
    params = {"pipeline": spec.name, "model": spec.model, "alias": spec.alias}
    needs = (DATASET, TRAIN, EVALUATE, *((GATE,) if spec.gate is not None else ()))
    return Node(
        REGISTER,
        needs,
        recipe.key(REGISTER, params=params),
        partial(_register, recipe),
        after=tuple(name for name in after if name not in needs),
        leaves="registered",
        holds=partial(_is_registered, recipe),
    )


def judged(recipe: Recipe, evaluation: Evaluation) -> GateResult | None:
    """Hold the gate against what was measured; None without one."""
    spec = recipe.spec
    if spec.gate is None:
        return None
    champion = CHAMPION if CHAMPION in evaluation.models[1:] else None
    baselines = [name for name in evaluation.models if name not in (spec.model, CHAMPION)]
    return judge(spec.gate, evaluation, champion=champion, baselines=baselines)


def _gate_settings(spec: TrainingPipeline) -> dict[str, Any] | None:
    return spec.gate.model_dump(mode="json") if spec.gate is not None else None


def _report(recipe: Recipe, context: NodeContext) -> Output:
    dataset, model = recipe.dataset(context), recipe.model(context)
    measured = measured_by(recipe, dataset, model, context)
    if (why := why_not_drawn()) is not None:
        context.told.warn(f"the report has no plots: {why}")
    folder = context.draft / "report"
    folder.mkdir()
    clocks = context.inputs.get(CLOCKS)
    path = write_run_report(
        folder / REPORT_FILE,
        spec=recipe.spec,
        dataset=dataset,
        model=model,
        measured=measured,
        gate=judged(recipe, measured.evaluation),
        clocks=read_clocks(context.artifacts, clocks, context.draft / "clocks")
        if clocks is not None
        else None,
        facts={"run": recipe.shown_run or context.run_id},
    )
    for name in (REPORT_FILE, *CARD_FILES):
        context.told.keep(name, path.with_name(name))
    return Output(context.artifacts.put_tree(folder).digest, "files")


def _gate(recipe: Recipe, context: NodeContext) -> Output:
    found = judged(recipe, read_evaluation(context))
    assert found is not None
    found.raise_if_failed(recipe.spec.model)
    kept = context.artifacts.put_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_SORT_KEYS), name=GATE)
    return Output(kept.digest, "value")


def _register(recipe: Recipe, context: NodeContext) -> Output:
    spec, metadata = recipe.spec, recipe.workspace.metadata
    dataset, model = recipe.dataset(context), recipe.model(context)
    evaluation = read_evaluation(context)
    scores = {metric: evaluation.score(metric).value for metric in evaluation.metrics}
    gate = context.inputs.get(GATE)
    evidence = orjson.loads(context.artifacts.read_bytes(gate.digest)) if gate else {"scores": scores}
    why = f"run {context.run_id} passed its gate" if gate else f"run {context.run_id}, no gate"
    artifact = context.artifacts.about(context.inputs[TRAIN].digest, name="model")
    known = _versions_of(metadata, spec.model, artifact.digest)
    left = bool(known) and moved_by_hand(metadata, spec.model, spec.alias)
    version = metadata.register_model_version(
        spec.model,
        context.run_id,
        artifact.digest,
        scores,
        _signature(dataset, model, spec),
        artifact_uri=artifact.uri,
        dataset_id=metadata.get_run(context.run_id).dataset_id,
        tags={"clock": dataset.manifest["clock"], "pipeline": spec.name},
        alias=None if left else spec.alias,
        why=why,
        evidence={**evidence, _BY_RUN: context.run_id},
        once=True,
    )
    told = {"model": spec.model, "version": version.version, "alias": spec.alias, "artifact": artifact.digest}
    kept = context.artifacts.put_bytes(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), name=REGISTER)
    return Output(kept.digest, "value")


def moved_by_hand(metadata: MetadataStore, model: str, alias: str) -> bool:
    """Whether the last move of an alias was somebody's own: a model that was registered before does not undo it."""
    moves = metadata.alias_history(model, alias)
    return bool(moves) and _BY_RUN not in moves[-1].evidence


def _is_registered(recipe: Recipe, output: Output) -> bool:
    """Whether a registration still stands: the version is there, and no other run has taken its alias since."""
    told = orjson.loads(recipe.workspace.artifacts.read_bytes(output.digest))
    metadata, model, alias = recipe.workspace.metadata, told["model"], told["alias"]
    known = _versions_of(metadata, model, told["artifact"])
    if told["version"] not in known:
        return False
    return metadata.aliases(model).get(alias) == told["version"] or moved_by_hand(metadata, model, alias)


def _versions_of(metadata: MetadataStore, model: str, artifact: str) -> tuple[int, ...]:
    """The versions of a model that are this artifact; none where there is no such model."""
    if model not in metadata.list_models():
        return ()
    return tuple(one.version for one in metadata.list_versions(model) if one.artifact_digest == artifact)


def _signature(dataset: StoredDataset, model: Model, spec: TrainingPipeline) -> dict[str, Any]:
    schema: Mapping[str, str] = dataset.manifest["schema"]
    return {
        "service": spec.data.features.name,
        "features": {name: schema[name] for name in model.features},
        "request": list(model.request),
        "label": model.label,
        "fingerprints": dict(dataset.manifest["fingerprints"]),
    }
