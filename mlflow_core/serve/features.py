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
from mlflow_core.feast.registry import read_config
from mlflow_core.feast.served_store import open_served_store
from mlflow_core.online.answer import Answer
from mlflow_core.online.backend import Ask, OnlineBackend
from mlflow_core.online.form import Packed, StoredForm
from mlflow_core.serve.catalogue import Catalogue, compile_catalogue
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.registry import RegistryReader
from mlflow_core.serve.served import ServedReader, ServedService

__all__ = ["Features", "make_importable", "reader_of"]


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
        store: The online store.
        clock: Says at what time TTL counts.
        form: How the store keeps rows.
        allow_registry_code: Run native on-demand transformations, whose code is in the registry.
    """

    def __init__(
        self,
        reader: RegistryReader,
        store: OnlineBackend,
        clock: Clock,
        *,
        form: StoredForm | None = None,
        allow_registry_code: bool = False,
    ) -> None:
        self.clock = clock
        self.store = store
        self.catalogue = Catalogue()
        self.registry_problem: str | None = None
        self._reached: Mapping[str, int] = {}
        self._reader = reader
        self._form = form or Packed()
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
        store, form = open_served_store(config, clock)
        features = cls(
            RegistryReader(config), store, clock, form=form, allow_registry_code=allow_registry_code
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
            self._reached = snapshot.reached
            if snapshot.digest == self.catalogue.digest:
                self.registry_problem = None
                return False
            self.catalogue = compile_catalogue(
                snapshot,
                form=self._form,
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

    def asked(self, service: str | None, references: tuple[str, ...]) -> ServedService:
        """Return a service by its name, else references as one; see ``service`` and ``Catalogue.of_references``."""
        if service is not None:
            return self.service(service)
        return self.catalogue.of_references(references)

    def answer(
        self,
        service: ServedService,
        columns: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
        now_us: int | None = None,
    ) -> Answer:
        """Answer checked rows, blocking.

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
        reader = reader_of(service, full_feature_names=full_feature_names).reader
        now = self.clock.now_us() if now_us is None else now_us
        return reader.answer(columns, backend=self.store, now_us=now)

    def freshness(self) -> tuple[int, dict[str, int]]:
        """Return what time it is, and up to when each view is materialised; microseconds since epoch, UTC."""
        return self.clock.now_us(), dict(self._reached)

    def store_problem(self) -> str | None:
        """Say why the online store cannot be read now, or None."""
        try:
            self.store.read([Ask(("readiness",), ("readiness",), [b"readiness"])])
        except MlcoreError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close registry and store."""
        self._reader.close()
        self.store.close()


def reader_of(service: ServedService, *, full_feature_names: bool) -> ServedReader:
    """Return the reader that calls a service's features as asked.

    Raises:
        Refusal: Two features have one name, so that they need full names.
    """
    reader = service.full if full_feature_names else service.short
    if reader is None:
        raise Refusal(
            f'service "{service.name}" has several features of one name',
            name=service.name,
            hint='Ask with "full_feature_names": true.',
        )
    return reader
