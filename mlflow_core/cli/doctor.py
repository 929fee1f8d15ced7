"""``mlcore doctor``: is this machine and this project ready? Each check says what it found; nothing is changed.

Works outside a project too, where it looks at the machine only; ``--warm`` also compiles the kernels into their
cache, which is the one thing that it writes.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.errors import ExitCode, MlcoreError

if TYPE_CHECKING:
    from mlflow_core.plan.diff import Applied

__all__ = ["Finding", "app", "doctor"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_PACKAGES = (
    "mlflow-core",
    "feast",
    "dask",
    "pyarrow",
    "pandas",
    "numpy",
    "numba",
    "xgboost",
    "duckdb",
    "sqlalchemy",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        state: ``ok``, ``wrong``, or ``none`` where there is nothing to look at yet.
        detail: What was found, or what to do.
    """

    check: str
    state: Literal["ok", "wrong", "none"]
    detail: str


@app.command()
def doctor(
    context: typer.Context,
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile the kernels now, so that no first run waits.")
    ] = False,
) -> None:
    """Check versions, the feature repository, the registry, the metadata database and folders; exits with 1 if one is wrong.

    Example: mlcore doctor --warm
    """
    call = invocation(context)
    findings = [*_machine(), *_project(call), *(_warmed(call) if warm else ())]
    data = [{"check": one.check, "state": one.state, "detail": one.detail} for one in findings]
    call.out.table(
        data, ("check", "state", "detail"), [(one.check, one.state, one.detail) for one in findings]
    )
    if any(one.state == "wrong" for one in findings):
        raise typer.Exit(ExitCode.FAILED)


def _machine() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    supported = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if supported else "wrong", f"{platform.python_version()} on {platform.platform()}"
    )
    yield Finding("processors", "ok", str(len(os.sched_getaffinity(0))))
    for package in _PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            # Run from a source tree, our own package has no metadata; the others have to be installed.
            state: Literal["none", "wrong"] = "none" if package == "mlflow-core" else "wrong"
            yield Finding(package, state, "run from source" if state == "none" else "is not installed")


def _project(call: Invocation) -> Iterator[Finding]:
    settings = _checked("settings", lambda: f"{call.settings.root}" + (f", {call.env}" if call.env else ""))
    yield settings
    if settings.state == "wrong":
        return
    if not (call.repo / "feature_store.yaml").is_file():
        yield Finding("feature repository", "none", f"{call.repo} holds no feature_store.yaml")
        return
    yield _checked("feature repository", lambda: _loaded(call))
    yield _checked("registry", lambda: _registry(call), missing="nothing was applied yet; run: mlcore apply")
    yield _metadata(call)
    yield _writable(call)


def _checked(check: str, look: Callable[[], str | None], missing: str = "") -> Finding:
    try:
        found = look()
    except MlcoreError as error:
        return Finding(check, "wrong", str(error))
    return Finding(check, "none", missing) if found is None else Finding(check, "ok", found)


def _loaded(call: Invocation) -> str:
    project = call.project
    features = sum(len(view.feature_names) for view in project.views.values())
    return f"{len(project.views)} views, {features} features, {len(project.services)} services, {len(project.pipelines)} pipelines"


def _registry(call: Invocation) -> str | None:
    from mlflow_core.feast.applied import stored

    found = stored(call.repo)
    applied = _asked_of_feast(call) if found is None else found.specs
    if applied is None:
        return None
    return f"{len(applied['views'])} views, {len(applied['services'])} services applied"


def _asked_of_feast(call: Invocation) -> Applied | None:
    from mlflow_core.feast.registry import applied_specs, has_registry

    return applied_specs(call.store) if has_registry(call.repo) else None


def _metadata(call: Invocation) -> Finding:
    from mlflow_core.metadata.upgrade import check

    try:
        found = check(call.settings.metadata_url())
    except MlcoreError as error:
        return Finding("metadata database", "wrong", str(error))
    if found.state == "empty":
        return Finding("metadata database", "none", "has no tables yet; the first run makes them")
    if found.state == "current":
        return Finding("metadata database", "ok", f"revision {found.revision}")
    advice = (
        "run: mlcore db upgrade" if found.state == "older" else "install the newer mlflow-core that wrote it"
    )
    return Finding(
        "metadata database", "wrong", f"revision {found.revision}, this version has {found.head}; {advice}"
    )


def _writable(call: Invocation) -> Finding:
    location = call.settings.artifact_location()
    if "://" in location:
        return Finding("artifacts", "none", f"{location} is looked at when it is used")
    folder = _nearest_existing(Path(location))
    state: Literal["ok", "wrong"] = "ok" if os.access(folder, os.W_OK) else "wrong"
    return Finding("artifacts", state, f"{location}" if state == "ok" else f"{folder} cannot be written")


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _warmed(call: Invocation) -> Iterator[Finding]:
    from mlflow_core.engine.kernels.warming import warm

    yield _checked("kernels", lambda: _compiled(call, warm))


def _compiled(call: Invocation, warm: Callable[..., object]) -> str:
    from time import perf_counter

    start = perf_counter()
    warm(call.progress())
    return f"compiled in {perf_counter() - start:.1f} s"
