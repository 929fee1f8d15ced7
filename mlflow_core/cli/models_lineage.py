"""``mlcore models lineage``: what a version came from: its run, its training set, the views and sources of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation

if TYPE_CHECKING:
    from mlflow_core.metadata.records import DatasetRecord, ModelVersion, Run

__all__ = ["lineage"]

_KINDS = {"view": "views", "on_demand": "on_demand", "service": "services"}


def lineage(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model: NAME, NAME:VERSION or NAME@ALIAS.")],
) -> None:
    """Show what a version came from: run, training set, features as they were then, sources; and where it is deployed.

    Example: mlcore models lineage late_arrival@champion
    """
    call = invocation(context)
    version = call.metadata.resolve_model(model)
    run = None if version.run_id is None else call.metadata.get_run(version.run_id)
    dataset = None if version.dataset_id is None else call.metadata.get_dataset(version.dataset_id)
    features = _features(call, version)
    deployed = [
        one for one in call.metadata.list_deployments(version.model) if one.version == version.version
    ]
    data = {
        "model": version.title,
        "aliases": list(version.aliases),
        "run": None
        if run is None
        else {"id": run.id, "pipeline": run.pipeline, "state": run.state.value, "principal": run.principal},
        "dataset": None
        if dataset is None
        else {
            "id": dataset.id,
            "digest": dataset.content_hash,
            "clock": dataset.clock,
            "rows": dict(dataset.rows),
        },
        "features": features,
        "sources": {} if dataset is None else dict(dataset.source_snapshot),
        "deployments": [{"id": one.id, "target": one.target, "state": one.state} for one in deployed],
    }
    call.result(data, "\n".join(_lines(version, run, dataset, data)))


def _features(call: Invocation, version: ModelVersion) -> list[dict[str, Any]]:
    """What the version reads, with whether each is declared as it was; None where the project does not load."""
    from mlflow_core.errors import MlcoreError
    from mlflow_core.plan.fingerprint import fingerprint

    try:
        project = call.project
    except MlcoreError:
        project = None
    found = []
    for title, then in sorted(dict(version.signature.get("fingerprints", {})).items()):
        kind, _, name = title.partition(" ")
        declared: Any = None if project is None else getattr(project, _KINDS[kind]).get(name)
        now = None
        if project is not None:
            now = "gone" if declared is None else "same" if fingerprint(declared) == then else "changed"
        found.append({"kind": kind, "name": name, "fingerprint": then, "now": now})
    return found


def _lines(
    version: ModelVersion, run: Run | None, dataset: DatasetRecord | None, data: dict[str, Any]
) -> list[str]:
    aliases = f"  {', '.join(version.aliases)}" if version.aliases else ""
    lines = [f"{version.title}{aliases}"]
    if run is not None:
        lines.append(f"  run      {run.id} of {run.pipeline}, {run.state.value}, by {run.principal}")
    if dataset is not None:
        rows = f"{sum(dataset.rows.values()):,} rows"
        lines.append(f"  dataset  {dataset.id}, clock {dataset.clock}, {rows}, {dataset.content_hash[:19]}")
    told = {None: "", "same": "", "changed": ", changed since", "gone": ", declared no more"}
    for one in data["features"]:
        lines.append(f"  {one['kind']:<10}{one['name']}, {one['fingerprint'][:19]}{told[one['now']]}")
    lines += [f"  source    {name}, {then[:19]}" for name, then in data["sources"].items()]
    lines += [f"  deployed  {one['target']}, {one['state']}" for one in data["deployments"]]
    return lines
