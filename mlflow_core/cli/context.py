"""What a verb needs, opened when it is first asked for: settings, project, store, metadata, clock, output.

Verbs take it from typer's context with ``invocation(context)``; nothing here is imported before it is used, so
that a verb pays only for what it touches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

    from mlflow_core.cli.output import Output
    from mlflow_core.config import Clock, Principal, Settings
    from mlflow_core.metadata import MetadataStore
    from mlflow_core.plan.project import Project
    from mlflow_core.telemetry import Progress

__all__ = ["Invocation", "find_root", "invocation"]


def invocation(context: typer.Context) -> Invocation:
    """Return what the global options of this call opened up."""
    found: Invocation = context.find_root().obj
    return found


def find_root(start: Path) -> Path:
    """Return the nearest folder with ``mlcore.toml``, going upwards; the start itself where there is none."""
    for folder in (start, *start.parents):
        if (folder / "mlcore.toml").is_file():
            return folder
    return start


@dataclass(frozen=True)
class Invocation:
    """One call of ``mlcore`` with its global options.

    Args:
        given_root: ``--root``, or None.
        env: ``--env``, or None.
        json: ``--json``.
        verbosity: How often ``-v``.
        yes: ``--yes``.
        given_principal: ``--as``, or None.
        secret: Texts that must never be shown; filled when the settings are read, and when the sources are.
    """

    given_root: Path | None = None
    env: str | None = None
    json: bool = False
    verbosity: int = 0
    yes: bool = False
    given_principal: str | None = None
    secret: list[str] = field(default_factory=list, compare=False)

    @cached_property
    def root(self) -> Path:
        """The project's folder, absolute."""
        return (self.given_root or find_root(Path.cwd())).resolve()

    @cached_property
    def settings(self) -> Settings:
        """The settings of this project and environment.

        Raises:
            ConfigError: A setting is wrong, or ``--root`` is no folder.
        """
        return self.read_settings()

    def read_settings(self, *, missing_too: bool = False) -> Settings:
        """Read the settings; see ``settings``.

        Args:
            missing_too: Take secrets without a value, for showing references alone.
        """
        from mlflow_core.config import load_settings
        from mlflow_core.errors import ConfigError

        if not self.root.is_dir():
            raise ConfigError(f'"{self.root}" is no folder', hint="--root takes the project's folder.")
        settings = load_settings(self.root, self.env, missing_too=missing_too)
        self._never_show(settings.secret_values())
        return settings

    @cached_property
    def repo(self) -> Path:
        """The feature repository, absolute."""
        return self.settings.feature_repo_path()

    @cached_property
    def project_name(self) -> str:
        """The project's name: that of ``feature_store.yaml``, which owns it, else the settings'."""
        import yaml

        file = self.repo / "feature_store.yaml"
        raw = yaml.safe_load(file.read_text()) if file.is_file() else None
        return (
            str(raw["project"]) if isinstance(raw, dict) and "project" in raw else self.settings.project.name
        )

    @cached_property
    def project(self) -> Project:
        """The declarations of this project, loaded.

        Raises:
            PlanError: They do not load.
            ConfigError: ``mlcore.toml`` and ``feature_store.yaml`` name the project differently.
        """
        from mlflow_core.errors import ConfigError
        from mlflow_core.plan.load import load_project

        settings, name = self.settings, self.project_name
        if settings.origin("project.name") != "default" and settings.project.name != name:
            raise ConfigError(
                f'project.name is "{settings.project.name}", but feature_store.yaml says "{name}"',
                place=settings.origin("project.name"),
                hint="Leave project.name out, or write the same name.",
            )
        project = load_project(
            self.root,
            name=name,
            feature_repo=settings.project.feature_repo,
            pipelines=settings.project.pipelines,
        )
        self._never_show(project.secret_values())
        return project

    def _never_show(self, texts: Iterable[str]) -> None:
        """Keep texts out of all that is said from now on: logs here, errors where the command ends."""
        from mlflow_core.telemetry.logs import configure_logging

        new = [one for one in texts if one and one not in self.secret]
        if new:
            self.secret.extend(new)
            configure_logging(self.verbosity, json_lines=self.json, redact=self.secret)

    @cached_property
    def schemas(self) -> Mapping[str, pa.Schema]:
        """View name -> schema of keys and features; reading them checks the project against its data.

        Raises:
            PlanError: Declarations that do not fit together or not to the data; all of them at once.
        """
        from mlflow_core.plan.check import check_project
        from mlflow_core.sources import read_schema

        return check_project(self.project, read_schema)

    @cached_property
    def store(self) -> FeatureStore:
        """Feast's store of this project.

        Raises:
            RegistryError: Nothing was applied yet, or the registry cannot be opened.
        """
        return self.open_store()

    def open_store(self, *, clock: str | None = None, create: bool = False) -> FeatureStore:
        """Open Feast's store; see ``mlflow_core.feast.registry.open_store``."""
        from mlflow_core.feast.registry import open_store

        opened = open_store(self.repo, clock=clock or self._configured_clock(), create=create)
        self._stores.append(opened)
        return opened

    @cached_property
    def _stores(self) -> list[FeatureStore]:
        return []

    def _configured_clock(self) -> str | None:
        value = self.settings.clock.value
        return None if value == "system" else value

    @cached_property
    def clock(self) -> Clock:
        """What "now" means here."""
        return self.settings.make_clock()

    @cached_property
    def principal(self) -> Principal:
        """Who does this: by a token, else ``--as``, the settings, the operating system's user.

        Raises:
            MetadataError: The token is none that is in force.
            UsageError: ``--as`` names somebody else than the token.
        """
        from mlflow_core.metadata.acting import TOKEN_VARIABLE, acting_principal

        self._never_show([os.environ.get(TOKEN_VARIABLE, "")])
        return acting_principal(self.settings, option=self.given_principal)

    @cached_property
    def metadata(self) -> MetadataStore:
        """The metadata store, its tables made where there are none.

        Raises:
            MetadataError: The database cannot be used.
        """
        from mlflow_core.config import SystemClock
        from mlflow_core.metadata import MetadataStore

        return MetadataStore(
            self.settings.metadata_url(),
            self.clock,
            self.principal,
            project=self.project_name,
            namespace=self.settings.project.namespace,
            leases=SystemClock(),
        )

    def close(self) -> None:
        """Give back what the verb opened; called when the verb has ended, however it did."""
        opened = vars(self).get("metadata")  # asking the property would open it
        if opened is not None:
            opened.close()
        for store in self._stores:
            if store._provider is not None:  # Feast opens the online store only where it is needed
                import asyncio

                asyncio.run(store.close())

    @cached_property
    def out(self) -> Output:
        """Where results are written."""
        from mlflow_core.cli.output import Output

        return Output(json=self.json)

    def progress(self) -> Progress:
        """Progress on standard error; none with ``--json``."""
        from mlflow_core.telemetry import ConsoleProgress, SilentProgress

        return SilentProgress() if self.json else ConsoleProgress()

    def result(self, data: Any, text: str) -> None:
        """Print a result: the data as JSON with ``--json``, else the text."""
        self.out.result(data, text)
