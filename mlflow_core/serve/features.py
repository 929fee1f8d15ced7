"""The features of a project, ready to be asked for: registry, online store and clock of one feature repository.

The command and the server ask the same object. ``refresh`` picks up another registry version; whoever is being
answered meanwhile keeps the catalogue that it started with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_core.config.clock import Clock
from mlflow_core.errors import MlcoreError, RegistryError
from mlflow_core.feast.online_store import open_backend
from mlflow_core.feast.registry import read_config
from mlflow_core.online.answer import Answer
from mlflow_core.online.backend import OnlineBackend
from mlflow_core.serve.catalogue import Catalogue, ServedService, compile_catalogue
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.registry import RegistryReader

__all__ = ["Features", "make_importable"]


def make_importable(root: Path) -> None:
    """Let this process import a project's own package, where its on-demand functions are.

    Args:
        root: The project's folder; it goes to the front of the import path.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


class Features:
    """Answers from the online store what the registry declares.

    Args:
        reader: Reads the registry.
        backend: The online store.
        clock: Says at what time TTL counts.
        allow_registry_code: Run native on-demand transformations, whose code is in the registry.
    """

    def __init__(
        self,
        reader: RegistryReader,
        backend: OnlineBackend,
        clock: Clock,
        *,
        allow_registry_code: bool = False,
    ) -> None:
        self.clock = clock
        self.catalogue = Catalogue()
        self.registry_problem: str | None = None
        self._reader = reader
        self._backend = backend
        self._allow_registry_code = allow_registry_code

    @classmethod
    def open(cls, repo: Path, clock: Clock, *, allow_registry_code: bool = False) -> Features:
        """Open what ``feature_store.yaml`` names, and compile every service.

        Args:
            repo: The feature repository.
            clock: Says at what time TTL counts.
            allow_registry_code: Run native on-demand transformations.

        Raises:
            ConfigError: ``feature_store.yaml`` is missing or wrong.
            RegistryError: The registry does not exist or cannot be read.
        """
        config = read_config(repo, clock=str(clock))
        features = cls(
            RegistryReader(config),
            open_backend(config, clock),
            clock,
            allow_registry_code=allow_registry_code,
        )
        try:
            features.refresh()
        except BaseException:
            features.close()
            raise
        return features

    def refresh(self) -> bool:
        """Read the registry, and compile it if it has changed.

        Returns:
            Whether another version is served now.

        Raises:
            RegistryError: It cannot be read; what was served goes on being served.
        """
        try:
            snapshot = self._reader.read()
            if snapshot.digest == self.catalogue.digest:
                self.registry_problem = None
                return False
            self.catalogue = compile_catalogue(
                snapshot,
                allow_registry_code=self._allow_registry_code,
                previous=self.catalogue,
            )
        except MlcoreError as error:
            self.registry_problem = str(error)
            raise
        except Exception as error:
            self.registry_problem = f"{type(error).__name__}: {error}"
            raise RegistryError("is damaged, or of another version of Feast") from error
        self.registry_problem = None
        return True

    def service(self, name: str) -> ServedService:
        """Return a service.

        Raises:
            Refusal: There is none of that name (404), or none that can be served (503).
        """
        catalogue = self.catalogue
        found = catalogue.services.get(name)
        if found is not None:
            return found
        if name in catalogue.problems:
            raise Refusal(
                f'service "{name}" cannot be served: {catalogue.problems[name]}', status=503, name=name
            )
        raise unknown(f'there is no feature service "{name}"', name, catalogue.services, status=404)

    def answer(
        self,
        service: ServedService,
        columns: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
        now_us: int | None = None,
    ) -> Answer:
        """Answer checked rows.

        Args:
            service: What is asked.
            columns: Every key column and request field of the service; shape (n_rows,) each.
            full_feature_names: Call features ``{view}__{feature}``.
            now_us: When TTL counts, microseconds since epoch, UTC; now if None.

        Raises:
            Refusal: Two features have one name, so that they need full names.
            ServeError: A value is of a type that its column cannot hold.
            StoreError: The online store cannot be read, or holds rows of another definition.
        """
        reader = service.full if full_feature_names else service.short
        if reader is None:
            raise Refusal(
                f'service "{service.name}" has several features of one name',
                name=service.name,
                hint='Ask with "full_feature_names": true.',
            )
        now = self.clock.now_us() if now_us is None else now_us
        return reader.answer(columns, backend=self._backend, now_us=now)

    def store_problem(self) -> str | None:
        """Say why the online store cannot be read now, or None."""
        views = {read.view.name for one in self.catalogue.services.values() for read in one.full.plan.reads}
        try:
            self._backend.read([(view, [b"readiness"]) for view in sorted(views)[:1]])
        except MlcoreError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close registry and store."""
        self._reader.close()
        self._backend.close()
