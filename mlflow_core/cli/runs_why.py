"""``mlcore runs why``: for every step of a run whether its output was found, and if not, what had changed."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_core.cli.context import invocation

__all__ = ["why"]


def why(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of it, or latest.")] = "latest",
) -> None:
    """Say why each step was run, or was not: the parts of its key that differ from the nearest earlier attempt.

    Example: mlcore runs why latest
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.why import why as reasons_of

    call = invocation(context)
    found = call.metadata.get_run(run)
    reasons = reasons_of(call.metadata, ArtifactStore(call.settings.artifact_location()), found.id)
    data = {"run": found.id, "pipeline": found.pipeline, "steps": [one.to_json() for one in reasons]}
    rows = [
        (
            one.step if one.attempt == 1 else f"{one.step} (attempt {one.attempt})",
            "hit" if one.found else "miss",
            one.describe(),
        )
        for one in reasons
    ]
    call.out.table(data, ("step", "cache", "why"), rows)
