"""The section ``[cluster]``: where distributed work runs, described. Opens nothing and imports no Dask."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from mlflow_core.config.secret import Secret, reveal
from mlflow_core.config.section import Section
from mlflow_core.config.sizes import parse_size
from mlflow_core.config.times import parse_duration
from mlflow_core.errors import UsageError

__all__ = ["ADDRESS", "PROFILES", "STANDING", "ClusterSettings", "Profile", "standing_address"]

Profile = Literal[
    "local",
    "slurm",
    "pbs",
    "sge",
    "lsf",
    "moab",
    "oar",
    "htcondor",
    "jobqueue-local",
    "kubernetes",
    "gateway",
]
"""Where a cluster of one's own is started."""

PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
ADDRESS: Final = r"^(tcp|tls|ws|wss|ucx|inproc)://.+"


STANDING: Final = "started"
"""The address of the cluster that ``mlcore cluster start`` has started, whatever that is."""


def standing_address(root: Path) -> str:
    """Return the address that stands for a project's started cluster, with where that is noted.

    Example:
        >>> standing_address(Path("/shop"))
        'started:/shop/.mlcore/cluster.json'
    """
    return f"{STANDING}:{root / '.mlcore' / 'cluster.json'}"


def _is_address(value: str | Secret) -> str | Secret:
    if isinstance(value, Secret) and value.missing:
        return value
    text = reveal(value)
    if not re.match(ADDRESS, text) and text != STANDING and not text.startswith(f"{STANDING}:"):
        raise ValueError(
            "expected a scheduler's address such as tcp://10.0.0.5:8786 or tls://10.0.0.5:8786, or started"
        )
    return value


def _is_duration(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _is_size(text: str) -> str:
    try:
        parse_size(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _from_json(value: object) -> object:
    """Options that come from an environment variable or a command line are one JSON object."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"as a text it must be one JSON object ({error})") from error
    return value


class ClusterSettings(Section):
    """Where distributed work runs.

    Args:
        profile: ``local``: processes on this machine. ``slurm``, ``pbs``, ``sge``, ``lsf``, ``moab``, ``oar``,
            ``htcondor``: jobs of that queue; ``jobqueue-local`` runs such jobs on this machine, without a queue.
            ``kubernetes``: pods, through Dask's operator. ``gateway``: a cluster from a Dask Gateway.
        address: A running Dask scheduler, e.g. ``tcp://10.0.0.5:8786``, or ``started`` for the cluster that
            ``mlcore cluster start`` has started. Wins over the profile.
        workers: Worker processes; None lets ``local`` choose, the other profiles need a number.
        threads: Threads a worker; None lets the profile choose.
        memory: Memory limit of a worker, e.g. ``2GiB``; None lets ``local`` choose.
        options: What else the profile's library takes, by its own names. May hold secrets.
        tls_ca: Certificate of the authority for ``tls://``: a path from the project's folder, or the PEM text
            itself through a secret.
        tls_cert: This process's certificate, the same way.
        tls_key: Its private key, the same way.
        start_within: How long the first worker of a profile may take to start, e.g. ``10m``.
        performance_report: A file for Dask's own report on the work, HTML; None for no report.
        larger_than: What is read and written in memory beyond which training sets are built there, e.g. ``500MB``;
            what is smaller one process does before workers have started.
    """

    profile: Profile = "local"
    address: Annotated[str | Secret, AfterValidator(_is_address)] | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*([kMGT]i?)?B$")] | None = None
    options: Annotated[Mapping[str, Any], BeforeValidator(_from_json)] = {}
    tls_ca: str | Secret | None = None
    tls_cert: str | Secret | None = None
    tls_key: str | Secret | None = None
    start_within: Annotated[str, AfterValidator(_is_duration)] = "10m"
    performance_report: str | None = None
    larger_than: Annotated[str, AfterValidator(_is_size)] = "2GB"

    @property
    def worth_from(self) -> int:
        """``larger_than`` in bytes."""
        return parse_size(self.larger_than)
