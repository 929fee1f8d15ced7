"""A view's events as they are stored: the layouts of its source's parts, and the ends of replaced versions.

It says where they are, and opens them in the worker that reads them. Writing them is ``mlflow_core.engine.layouts.layout``'s
and ``mlflow_core.engine.layouts.identity``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.engine.events.run import Run
from mlflow_core.engine.events.versions import END
from mlflow_core.engine.layouts.identity import Ends
from mlflow_core.engine.layouts.layout import Layout, LayoutSpec

__all__ = ["Opened", "Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a view's events are; small enough to be sent with each task.

    Attributes:
        folder: The cache's.
        spec: How the parts are laid out.
        schema: The columns of the source.
        entries: The parts' layouts, in source order; there may be none, where no event can matter.
        ends: The ends of replaced versions, for a source with identities.
    """

    folder: Path
    spec: LayoutSpec
    schema: pa.Schema
    entries: tuple[str, ...]
    ends: tuple[str, ...] | None

    def open(self) -> Opened:
        """Open the files.

        Raises:
            EngineError: This process does not see them.
        """
        layouts = tuple(Layout.open(self.folder / name) for name in self.entries)
        ends = None if self.ends is None else Ends.open(self.folder, self.ends)
        return Opened(layouts or (self._nothing(),), ends)

    def _nothing(self) -> Layout:
        none = self.schema.empty_table()
        zero = np.zeros(0, np.int64)
        return Layout(none.select(self.spec.view.keys), zero, zero, none.select(self.spec.columns))


@dataclass(frozen=True, slots=True)
class Opened:
    """A view's events, opened.

    Attributes:
        layouts: Of each part, in source order; at least one.
        ends: The ends of replaced versions, for a source with identities.
    """

    layouts: tuple[Layout, ...]
    ends: Ends | None

    def runs(self, low: int, high: int, columns: Sequence[str]) -> tuple[Run, ...]:
        """Take the keys of a range of codes out of each part.

        Args:
            low: The least code.
            high: The first code beyond.
            columns: The columns wanted.

        Returns:
            One run a part, in source order; with ``__end`` for a source with identities.
        """
        found = []
        for part, layout in enumerate(self.layouts):
            run, begin = layout.between(low, high)
            rows = run.rows.select(list(columns))
            if self.ends is not None:
                rows = rows.append_column(END, self.ends.of(part, begin, rows.num_rows))
            found.append(replace(run, rows=rows))
        return tuple(found)
