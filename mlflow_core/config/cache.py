"""Where sorted copies of sources are kept between retrievals, and how much they may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from mlflow_core.config.section import Section
from mlflow_core.config.sizes import parse_size
from mlflow_core.errors import UsageError

__all__ = ["CacheSettings"]


def _is_size(text: str) -> str:
    try:
        parse_size(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


class CacheSettings(Section):
    """The cache of layouts, which retrievals on a cluster fill and use.

    Args:
        location: A folder that all workers reach; a relative path starts at the project's folder.
        size: What it may take when nothing uses it, e.g. ``20 GiB``; the entries used longest ago go first.
    """

    location: str = ".mlcore/layouts"
    size: Annotated[str, AfterValidator(_is_size)] = "20 GiB"

    @property
    def limit(self) -> int:
        """What it may take, in bytes."""
        return parse_size(self.size)
