"""``mlcore gc``: what nobody needs any more, and taking it away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.workflow.retention import Removal

__all__ = ["app", "gc"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def gc(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, also with --yes.")
    ] = False,
) -> None:
    """Say which artifacts, training sets, checkpoints, layouts and logs nobody needs any more; with --yes, remove them.

    How long they are kept, the section [retention] says.

    Example: mlcore gc --yes
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.engine.layouts.cache import Cache
    from mlflow_core.workflow.retention import Stored, remove_old

    call = invocation(context)
    settings = call.settings
    here = settings.root / ".mlcore"
    stored = Stored(
        call.metadata,
        settings.metadata_url(),
        call.principal,
        ArtifactStore(settings.artifact_location()),
        Cache(Path(settings.cache.location), settings.cache.limit),
        (here / "logs", here / "reports"),
    )
    removal = remove_old(stored, settings.retention, call.clock, really=call.yes and not dry_run)
    call.result(_data(removal), _text(removal, width=call.out.width))


def _data(removal: Removal) -> dict[str, Any]:
    return {
        "done": removal.done,
        "bytes": removal.bytes,
        "artifacts": {
            "removed": list(removal.artifacts.deleted),
            "bytes": removal.artifacts.freed_bytes,
            "leftovers": removal.artifacts.leftovers,
            "kept": removal.artifacts.kept,
            "young": removal.artifacts.young,
            "missing": list(removal.artifacts.missing),
        },
        "datasets": [
            {"id": one.id, "name": one.name, "digest": one.digest}
            | {"namespace": one.namespace, "project": one.project, "created_us": one.created_us}
            for one in removal.datasets
        ],
        "versions": removal.versions,
        "layouts": {"removed": len(removal.layouts), "bytes": sum(one.bytes for one in removal.layouts)},
        "logs": {
            "removed": [str(one.path) for one in removal.logs],
            "bytes": sum(one.bytes for one in removal.logs),
        },
        "trainings": {
            "removed": [one.name for one in removal.trainings],
            "bytes": sum(one.bytes for one in removal.trainings),
        },
    }


def _text(removal: Removal, *, width: int) -> str:
    from mlflow_core.cli.output import table
    from mlflow_core.config.sizes import format_size

    found = removal.artifacts
    datasets = f"{len(removal.datasets)} training sets among them" if removal.datasets else ""
    versions = f"{removal.versions} old model versions" if removal.versions else ""
    rows = [
        (
            "artifacts",
            len(found.deleted),
            format_size(found.freed_bytes),
            ", ".join(text for text in (datasets, versions) if text),
        ),
        ("layouts", len(removal.layouts), format_size(sum(one.bytes for one in removal.layouts)), ""),
        ("logs", len(removal.logs), format_size(sum(one.bytes for one in removal.logs)), ""),
        (
            "trainings",
            len(removal.trainings),
            format_size(sum(one.bytes for one in removal.trainings)),
            "checkpoints" if removal.trainings else "",
        ),
    ]
    told = "Removed" if removal.done else "Would remove"
    lines = [table(("what", "objects", "size", ""), rows, width=width), ""]
    lines.append(
        f"{told} {format_size(removal.bytes)}; {found.kept} artifacts are needed, {found.young} are young."
    )
    if found.missing:
        lines.append(f"{len(found.missing)} that are needed are not there, the first {found.missing[0]}.")
    if not removal.done:
        lines.append("Nothing was removed. To do it: mlcore gc --yes")
    return "\n".join(lines)
