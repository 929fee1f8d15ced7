"""The project's settings: what ``mlcore.toml``, its overlays and the environment say, checked and frozen.

``feature_store.yaml`` owns what Feast reads; everything else is here, and a key is never in both. Opens
nothing: urls, locations and clocks are only described.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from mlflow_core.config.cache import CacheSettings
from mlflow_core.config.clock import Clock, parse_clock
from mlflow_core.config.cluster import STANDING, ClusterSettings, standing_address
from mlflow_core.config.layers import Raw, raise_all, read_layers
from mlflow_core.config.mlflow import MlflowSettings
from mlflow_core.config.principal import PrincipalSettings
from mlflow_core.config.retention import RetentionSettings
from mlflow_core.config.scheduling import ScheduleSettings
from mlflow_core.config.secret import Secret, reveal, secrets_in
from mlflow_core.config.section import Section
from mlflow_core.config.serving import ServeSettings
from mlflow_core.errors import ConfigError, UsageError, nearest

_SQLITE = "sqlite:///"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _is_clock(text: str) -> str:
    try:
        parse_clock(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


class ProjectSettings(Section):
    """What the project is called and where its declarations are.

    Args:
        name: The project's name; that of ``feature_store.yaml`` if not set, else the folder's.
        feature_repo: Folder of the feature definitions, with ``feature_store.yaml`` in it.
        pipelines: Folder of the training pipelines.
        namespace: The team whose project it is, in a metadata database that several share.
    """

    name: Annotated[str, Field(pattern=_NAME)] = "project"
    feature_repo: str = "feature_repo"
    pipelines: str = "pipelines"
    namespace: Annotated[str, Field(pattern=_NAME)] = "default"


class MetadataSettings(Section):
    """The metadata database.

    Args:
        url: SQLAlchemy's url; a relative SQLite path starts at the project's folder. May hold secrets.
    """

    url: str | Secret = "sqlite:///.mlcore/metadata.db"


class ArtifactSettings(Section):
    """The content-addressed store.

    Args:
        location: A folder or an fsspec url; a relative path starts at the project's folder. May hold secrets.
    """

    location: str | Secret = ".mlcore/artifacts"


class ClockSettings(Section):
    """What "now" means; see :func:`mlflow_core.config.clock.parse_clock`.

    Args:
        value: ``system``, a time, a distance such as ``-30d``, or ``from:<time>``.
    """

    value: Annotated[str, AfterValidator(_is_clock)] = "system"


@dataclass(frozen=True)
class Entry:
    """One row of ``mlcore config show --origin``; ``value`` shows a secret's reference, never its value.

    Args:
        key: ``section.key``.
        value: What it is.
        origin: Where it was set.
        missing: Why a secret in it has no value; None where all have one.
    """

    key: str
    value: str
    origin: str
    missing: str | None = None


class Settings(BaseModel):
    """All settings of one project in one environment.

    Args:
        root: The project's folder, absolute.
        env: The overlay's name, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    root: Path
    env: str | None = None
    project: ProjectSettings = ProjectSettings()
    metadata: MetadataSettings = MetadataSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    cluster: ClusterSettings = ClusterSettings()
    cache: CacheSettings = CacheSettings()
    serve: ServeSettings = ServeSettings()
    principal: PrincipalSettings = PrincipalSettings()
    retention: RetentionSettings = RetentionSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    mlflow: MlflowSettings = MlflowSettings()
    clock: ClockSettings = ClockSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def origin(self, key: str) -> str:
        """Where a value was set.

        Args:
            key: ``section.key``, e.g. ``serve.port``.

        Returns:
            A file relative to the project's folder, ``environment NAME``, ``override`` or ``default``.

        Raises:
            ConfigError: There is no such key.
        """
        keys = [f"{section}.{name}" for section, names in _KNOWN.items() for name in names]
        if key not in keys:
            raise ConfigError(f'there is no setting "{key}"', hint=nearest(key, keys))
        return self._origins.get(key, "default")

    def entries(self) -> list[Entry]:
        """Every key with its value and origin, secrets as their references."""
        return [
            Entry(key, _shown(value), self.origin(key), _missing(value))
            for section, names in _KNOWN.items()
            for name in names
            for key, value in [(f"{section}.{name}", getattr(getattr(self, section), name))]
        ]

    def secret_values(self) -> tuple[str, ...]:
        """The texts that must never be printed: secrets, and what they are made of."""
        held = [value for section in _SECTIONS for _, value in getattr(self, section)]
        return tuple(dict.fromkeys(text for secret in secrets_in(held) for text in secret.hidden()))

    def metadata_url(self) -> str:
        """The database's url with its secrets, a relative SQLite path made absolute."""
        return _absolute_url(reveal(self.metadata.url), self.root)

    def artifact_location(self) -> str:
        """The store's location with its secrets, a relative path made absolute."""
        return _absolute_location(reveal(self.artifacts.location), self.root)

    def feature_repo_path(self) -> Path:
        """The folder of the feature definitions, absolute."""
        return self.root / self.project.feature_repo

    def make_clock(self) -> Clock:
        """The clock that ``[clock] value`` describes; one that ``from:`` starts, starts now."""
        return parse_clock(self.clock.value)


_SECTIONS: dict[str, type[Section]] = {
    "project": ProjectSettings,
    "metadata": MetadataSettings,
    "artifacts": ArtifactSettings,
    "cluster": ClusterSettings,
    "cache": CacheSettings,
    "serve": ServeSettings,
    "principal": PrincipalSettings,
    "retention": RetentionSettings,
    "schedule": ScheduleSettings,
    "mlflow": MlflowSettings,
    "clock": ClockSettings,
}
_KNOWN = {section: tuple(model.model_fields) for section, model in _SECTIONS.items()}


def load_settings(
    root: Path,
    env: str | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    missing_too: bool = False,
) -> Settings:
    """Read a project's settings. Later wins: defaults, ``mlcore.toml``, overlay, environment, overrides.

    Args:
        root: The project's folder. Without ``mlcore.toml`` everything has its default.
        env: Which ``env/{name}.toml`` lies on top; ``MLCORE_ENV`` if None.
        overrides: ``section.key`` -> text, from a command line.
        environ: The environment, for ``MLCORE_SECTION_KEY`` and ``${env:X}``; the process's own if None.
        missing_too: Take secrets without a value, for those who only show references: revealing one raises.

    Returns:
        The settings, secrets resolved.

    Raises:
        ConfigError: One that lists every wrong value with its file, its key and the nearest valid key.

    Example:
        >>> load_settings(Path("/nowhere"), overrides={"serve.port": "9000"}, environ={}).serve.port
        9000
    """
    environ = os.environ if environ is None else environ
    root = Path(root).resolve()
    env = env if env is not None else environ.get("MLCORE_ENV") or None
    raw, problems = read_layers(root, env, overrides or {}, environ, _KNOWN, missing_too=missing_too)
    if "project.name" not in raw:
        repo = raw.get("project.feature_repo")
        folder = repo.value if repo else ProjectSettings().feature_repo
        try:
            raw["project.name"] = _default_name(root, folder)
        except ConfigError as error:
            problems.append(str(error))
    sections = {section: _section(section, model, raw, problems) for section, model in _SECTIONS.items()}
    raise_all(problems)
    sections["metadata"] = _with(sections["metadata"], "url", _absolute_url, root)
    for name in ("artifacts", "cache"):
        sections[name] = _with(sections[name], "location", _absolute_location, root)
    for name in ("tls_ca", "tls_cert", "tls_key", "performance_report"):
        sections["cluster"] = _with(sections["cluster"], name, _absolute_location, root)
    sections["cluster"] = _with(sections["cluster"], "address", _where_it_is_noted, root)
    for name in ("tracking_uri", "registry_uri"):
        sections["mlflow"] = _with(sections["mlflow"], name, _absolute_url, root)
    settings = Settings(root=root, env=env, **sections)
    settings._origins.update({key: item.origin for key, item in raw.items()})
    return settings


def _section(section: str, model: type[Section], raw: Mapping[str, Raw], problems: list[str]) -> Any:
    values = {name: raw[f"{section}.{name}"] for name in _KNOWN[section] if f"{section}.{name}" in raw}
    try:
        return model(**{name: item.value for name, item in values.items()})
    except ValidationError as invalid:
        seen = set()
        for error in invalid.errors(include_url=False, include_context=False):
            name = str(error["loc"][0])
            if name not in seen:  # a union reports once a member
                seen.add(name)
                item = values[name]
                shown = not _is_secret(model, name)
                problems.append(
                    f"{item.origin}: {section}.{name}: {_reason(item.value, error['msg'], shown)}"
                )
        return None


def _is_secret(section: type[Section], name: str) -> bool:
    """Whether a key takes references alone, so that what was written instead may be the secret itself."""
    kinds = get_args(section.model_fields[name].annotation)
    return Secret in kinds and str not in kinds


def _reason(value: object, message: str, shown: bool) -> str:
    if isinstance(value, Secret):
        return f"{value} is a secret reference, and this key holds none. Use the MLCORE_* variable instead."
    if not shown or isinstance(value, Mapping):  # what stands in a table may be what nobody must see
        return f"{message[:1].lower()}{message[1:]}"
    return f"{value!r}: {message[:1].lower()}{message[1:]}"


def _with(section: Section, name: str, change: Callable[[str, Path], str], root: Path) -> Section:
    text = getattr(section, name)
    return (
        section
        if text is None or isinstance(text, Secret)
        else section.model_copy(update={name: change(text, root)})
    )


def _absolute_url(url: str, root: Path) -> str:
    path = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or path in ("", ":memory:") or path.startswith("file:"):
        return url
    return f"{_SQLITE}{root / path}"


def _absolute_location(location: str, root: Path) -> str:
    return location if "://" in location else str(root / Path(location).expanduser())


def _where_it_is_noted(address: str, root: Path) -> str:
    return standing_address(root) if address == STANDING else address


def _default_name(root: Path, feature_repo: object) -> Raw:
    """Feast's name for the project where it has one: two names would be two projects to the metadata store."""
    file = root / str(feature_repo) / "feature_store.yaml"
    if file.is_file():
        import yaml

        place = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot be read: {error}", place=place) from error
        if isinstance(content, dict) and "project" in content:
            return Raw(str(content["project"]), place)
    return Raw(_name_of(root), "default")


def _name_of(root: Path) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in root.name).lstrip("_.-")
    return name or "project"


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _missing(value: object) -> str | None:
    return "; ".join(dict.fromkeys(one.missing for one in secrets_in(value) if one.missing)) or None
