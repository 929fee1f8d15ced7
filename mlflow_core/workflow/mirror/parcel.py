"""What MLflow gets of a run: its record in MLflow's terms, and a folder of files. Reads our stores, knows no server.

Pages and pictures go along, and the model where that is asked for; rows never do. ``mlcore.json`` holds the run exactly as
it is recorded here, for what MLflow cannot hold: intervals, infinities, names and values that it refuses.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError
from mlflow_core.metadata import LoggedArtifact, MetadataStore, Metric, ModelVersion, Run, RunState
from mlflow_core.metadata.canonical import canonical, sha256
from mlflow_core.workflow.mirror.names import LONGEST_PARAM, LONGEST_TAG, accepted_names, text_of_param
from mlflow_core.workflow.mirror.tags import DIGEST_TAG, RUN_TAG

__all__ = ["EXACT", "MODEL", "Parcel", "pack"]

EXACT: Final = "mlcore.json"
"""The file that holds the run as it is recorded here."""
MODEL: Final = "model"
"""The folder of the model's files."""

_STATUS: Final = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CRASHED: "FAILED",
    RunState.CANCELLED: "KILLED",
}
_SHOWN: Final = ("text/html", "text/markdown", "image/")
_PICTURES: Final = (".png", ".svg", ".jpg", ".jpeg")
_FORMAT: Final = 1


@dataclass(frozen=True)
class Parcel:
    """A run as MLflow gets it.

    Attributes:
        request: What the process that speaks to MLflow is told, as JSON values; NaN and infinities among them.
        warnings: What MLflow gets otherwise than it is here.
    """

    request: Mapping[str, Any]
    warnings: tuple[str, ...]


def pack(
    metadata: MetadataStore,
    artifacts: ArtifactStore,
    run: Run,
    folder: Path,
    *,
    project: str,
    experiment: str,
    models: bool,
) -> Parcel:
    """Make a run ready to be sent.

    Args:
        metadata: Where it is recorded.
        artifacts: Where its files are.
        run: It has ended.
        folder: An empty folder, which gets the files.
        project: ``namespace/project``.
        experiment: What it is put under in MLflow.
        models: Whether the files of a model that the run registered go along.
    """
    warnings: list[str] = []
    params, recorded = metadata.get_params(run.id), metadata.get_metrics(run.id)
    metrics = _with_intervals(recorded)
    named = accepted_names(params), accepted_names(dict.fromkeys(one.name for one in metrics))
    for kind, names in zip(("params", "metrics"), named, strict=True):
        if renamed := [f'"{ours}" is "{theirs}"' for ours, theirs in names.items() if ours != theirs]:
            warnings.append(f"MLflow refuses the names of some {kind}: there {', '.join(renamed)}")
    texts = {name: text_of_param(value) for name, value in params.items()}
    if long := [name for name, text in texts.items() if len(text) > LONGEST_PARAM]:
        warnings.append(
            f"MLflow takes {LONGEST_PARAM} characters of a param: cut there, whole in {EXACT}: {', '.join(long)}"
        )
    if endless := dict.fromkeys(one.name for one in metrics if math.isinf(one.value)):
        warnings.append(
            "MLflow keeps an infinite metric as the greatest number in its databases; "
            f"as it is in {EXACT}: {', '.join(endless)}"
        )
    version = _registered(metadata, run) if models else None
    (folder / EXACT).write_text(_exact(run, params, recorded, named), encoding="utf-8")
    warnings += _fetch(artifacts, metadata.list_artifacts(run.id), version, folder)
    request = {
        "do": "send",
        "experiment": experiment,
        "run": run.id,
        "mark": f"{_FORMAT} {run.state} {run.ended_us}{' with models' if models else ''}",
        "status": _STATUS[run.state],
        "start_ms": _ms(run.created_us if run.started_us is None else run.started_us),
        "end_ms": _ms(run.created_us if run.ended_us is None else run.ended_us),
        "params": [[named[0][name], text[:LONGEST_PARAM]] for name, text in texts.items()],
        "metrics": [[named[1][one.name], one.value, one.step, _ms(one.at_us or 0)] for one in metrics],
        "tags": _tags(metadata, run, project),
        "folder": str(folder),
        "model": None if version is None or not (folder / MODEL).is_dir() else _model(version, run),
    }
    return Parcel(request, tuple(warnings))


def _with_intervals(metrics: Sequence[Metric]) -> list[Metric]:
    """Metrics, and the ends of their intervals as metrics of their own, where no other has that name."""
    names = {one.name for one in metrics}
    ends = []
    for one in metrics:
        for end, value in (("low", one.low), ("high", one.high)):
            if value is not None and f"{one.name}.{end}" not in names:
                ends.append(Metric(f"{one.name}.{end}", value, one.step, at_us=one.at_us))
    return [*metrics, *ends]


def _exact(
    run: Run, params: Mapping[str, Any], metrics: Sequence[Metric], named: Sequence[Mapping[str, str]]
) -> str:
    renamed = [{ours: theirs for ours, theirs in names.items() if ours != theirs} for names in named]
    return canonical(
        {
            "run": asdict(run),
            "params": params,
            "metrics": [asdict(one) for one in metrics],
            "renamed": {"params": renamed[0], "metrics": renamed[1]},
        }
    )


def _tags(metadata: MetadataStore, run: Run, project: str) -> dict[str, str]:
    dataset = None if run.dataset_id is None else metadata.get_dataset(run.dataset_id)
    commit = run.code.get("commit")
    told: dict[str, object] = {
        "mlflow.user": run.principal,
        "mlflow.source.name": run.pipeline,
        "mlflow.source.git.commit": commit if isinstance(commit, str) else None,
        "mlcore.project": project,
        "mlcore.pipeline": run.pipeline,
        "mlcore.kind": run.kind,
        "mlcore.state": run.state.value,
        "mlcore.principal": f"{run.principal} ({run.established})",
        "mlcore.parent": run.parent_id,
        "mlcore.seed": run.seed,
        "mlcore.declaration": run.pipeline_fingerprint,
        "mlcore.code": sha256(canonical(run.code)) if run.code else None,
        "mlcore.dataset": None if dataset is None else dataset.content_hash,
        "mlcore.error": run.error,
        **{f"mlcore.tags.{name}": value for name, value in run.tags.items()},
    }
    names = accepted_names(told)
    return {
        names[name]: text_of_param(value)[:LONGEST_TAG] for name, value in told.items() if value is not None
    }


def _registered(metadata: MetadataStore, run: Run) -> ModelVersion | None:
    """The version that a run registered; None where it registered none, or found one of an earlier run."""
    versions = (version for name in metadata.list_models() for version in metadata.list_versions(name))
    return next((version for version in versions if version.run_id == run.id), None)


def _model(version: ModelVersion, run: Run) -> dict[str, Any]:
    tags = {"mlcore.model": version.title, DIGEST_TAG: version.artifact_digest, RUN_TAG: run.id}
    return {"name": version.model, "path": MODEL, "digest": version.artifact_digest, "tags": tags}


def _fetch(
    artifacts: ArtifactStore, files: Sequence[LoggedArtifact], version: ModelVersion | None, folder: Path
) -> Iterator[str]:
    """Copy a run's files into the folder; what is gone is told."""
    for file in files:
        target = folder / file.name
        if not _is_shown(file) or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with artifacts.open(file.digest) as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out)
        except ArtifactError as error:
            target.unlink(missing_ok=True)
            yield f'the file "{file.name}" was left out: {error}'
    if version is not None:
        try:
            artifacts.fetch_tree(version.artifact_digest, folder / MODEL)
        except ArtifactError as error:
            yield f"the model {version.title} was left out: {error}"


def _is_shown(file: LoggedArtifact) -> bool:
    """Whether a file is a page or a picture, under a name that stays in its folder."""
    path = PurePosixPath(file.name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] not in ((), (MODEL,))
    return inside and (file.media_type.startswith(_SHOWN) or path.suffix in _PICTURES)


def _ms(us: int) -> int:
    return us // 1_000
