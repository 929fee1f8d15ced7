"""``mlcore init``: a project that works at once, from a template.

Everything is made in a draft beside its place, the data too, and moved there when it is whole: a script that fails
leaves nothing, and nothing that is there already is written over.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import SourceError, UsageError

if TYPE_CHECKING:
    from mlflow_core.cli.templates import Template

__all__ = ["app", "init"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def init(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="Where; by default the current folder.", show_default=False)
    ] = None,
    template: Annotated[
        str,
        typer.Option(
            "--template",
            metavar="minimal|flights",
            help="What it is about: minimal makes its own small data, flights is the flagship.",
        ),
    ] = "minimal",
) -> None:
    """Make a project that works at once, its data included; files that are there already are never written over.

    Example: mlcore init parcels --template minimal
    """
    from mlflow_core.cli.templates import template_named

    call = invocation(context)
    chosen = template_named(template)
    target = (folder or call.given_root or Path.cwd()).absolute()
    files = chosen.files(_project_name(target))
    _check_needs(chosen)
    _check_free(target, _tops(files))
    with call.progress().stage("making the data"):
        _make(target, chosen, files)
    shown = _shown(target)
    commands = [*([] if shown == "." else [f"cd {shown}"]), *_commands(files)]
    data = {"template": template, "folder": str(target), "files": sorted(files), "commands": commands}
    lines = [f"{target} holds the project {_project_name(target)}, its data included. Next:", ""]
    call.result(data, "\n".join([*lines, *(f"$ {command}" for command in commands)]))


def _project_name(target: Path) -> str:
    """Make of a folder's name one that Feast takes: letters, digits and underscores."""
    name = re.sub(r"\W+", "_", target.name.lower(), flags=re.ASCII).strip("_")
    return name if re.match("[a-z]", name) else f"project_{name}".rstrip("_")


def _check_needs(chosen: Template) -> None:
    for package in chosen.needs:
        try:
            distribution(package)
        except PackageNotFoundError:
            raise UsageError(
                f'the template "{chosen.name}" takes its data from the package {package}, which is not installed',
                hint=f"Install it (pip install {package}), or take another: --template minimal",
            ) from None


def _check_free(target: Path, names: Iterable[str]) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError("is there already, and no folder", place=str(target))
    taken = [name for name in names if os.path.lexists(target / name)]
    if taken:
        raise UsageError(
            f"is there already: {', '.join(taken)}",
            place=str(target),
            expected="a folder without them; nothing is written over",
            hint="Name a new folder: mlcore init FOLDER",
        )


def _tops(files: Mapping[str, str]) -> list[str]:
    return sorted({path.partition("/")[0] for path in files})


def _make(target: Path, chosen: Template, files: Mapping[str, str]) -> None:
    with _draft_of(target) as draft:
        for path, text in files.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_text(text)
        answer = subprocess.run(
            [sys.executable, *chosen.script], cwd=draft, capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            said = answer.stderr.strip().splitlines() or ["nothing"]
            raise SourceError(
                f"the data could not be made: {said[-1]}",
                place=f"python {' '.join(chosen.script)}",
                hint="Nothing was left behind; mend that and try again.",
            )
        for cache in draft.rglob("__pycache__"):
            shutil.rmtree(cache)
        made = sorted(draft.iterdir())
        # The script's own files as well, which nobody knew before.
        _check_free(target, [one.name for one in made])
        for one in made:
            one.rename(target / one.name)


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """Give an empty folder on the target's disk; the target is taken away again if it was made for nothing."""
    made = [one for one in (target, *target.parents) if not one.exists()]
    target.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".mlcore-init-", dir=target))
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft)
        for one in made:
            one.rmdir()
        raise
    draft.rmdir()


def _commands(files: Mapping[str, str]) -> list[str]:
    """The commands of the project's own page."""
    return [line[2:] for line in files["README.md"].splitlines() if line.startswith("$ ")]


def _shown(target: Path) -> str:
    here = Path.cwd()
    return str(target.relative_to(here)) if target.is_relative_to(here) else str(target)
