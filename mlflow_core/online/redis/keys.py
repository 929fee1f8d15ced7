"""What things are called in Redis, and the commands that read them, packed once for each set of views.

``mlc:{project}:{columns}:{key}`` is a hash of one entity: a field for each view holds the packed value. Project and
columns are percent-quoted, columns joined by commas, so that no two of them share a name and none of them has a
colon or a character that patterns mean something by; the key's bytes come last and as they are. A field is named by
6 bytes of its view's digest, the most that Redis keeps in the least it allocates: names spelt out can take a tenth
of all memory. (Two views that met in it, one chance in 10^10 among 200, would replace each other's values as
definitions do, and a reader would say so.)

``mlc:{project}`` is one more hash: for each view ``d`` its schemas (8 bytes each, the newest last), ``k`` its key
columns (a line for each set that it has had) and ``b`` the boundary of an unfinished materialisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import quote

from mlflow_core.online.backend import Ask, Found

__all__ = ["BOUNDARY", "COLUMNS", "DEFINITIONS", "Names", "Reads", "answered", "field_of"]

DEFINITIONS, COLUMNS, BOUNDARY = b"d", b"k", b"b"
TEMPLATES = 1024
"""How many are kept: clients choose the views, and a cache must not grow with what they think of."""

_LENGTHS = 256


def field_of(view: str) -> bytes:
    """Return the name of a view's field, 6 bytes."""
    return blake2b(view.encode(), digest_size=6).digest()


class Names:
    """The names of one project's keys.

    Args:
        project: The project.

    Example:
        >>> Names("flights").prefix(("origin", "dest"))
        b'mlc:flights:origin,dest:'
    """

    def __init__(self, project: str) -> None:
        self.project = f"mlc:{_quoted(project)}".encode()
        self.rows = self.project + b":"

    def columns(self, columns: Sequence[str]) -> bytes:
        """Return how key columns are spelt."""
        return ",".join(map(_quoted, columns)).encode()

    def prefix(self, columns: Sequence[str]) -> bytes:
        """Return what the keys of an entity begin with; its key's bytes follow."""
        return self.rows + self.columns(columns) + b":"


class Reads:
    """Packs what is asked into the commands that read it.

    Args:
        names: The project's names.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._templates: dict[tuple[object, ...], Template] = {}

    def packed(self, asks: Sequence[Ask]) -> tuple[bytes, int]:
        """Return one HMGET a key in the order asked, packed as they are sent, and how many they are."""
        if len(asks) == 1:
            return self._packed(asks[0])
        parts = [self._packed(ask) for ask in asks]
        return b"".join([data for data, _ in parts]), sum([count for _, count in parts])

    def _packed(self, ask: Ask) -> tuple[bytes, int]:
        template = self._templates.get(ask[:2])
        if template is None:
            if len(self._templates) >= TEMPLATES:
                self._templates.clear()
            fields = [field_of(view) for view in ask.views]
            template = self._templates[ask[:2]] = Template(fields, prefix=self._names.prefix(ask.entity))
        if not ask.keys or not ask.views:
            return b"", 0
        return template.packed(ask.keys), len(ask.keys)


def answered(asks: Sequence[Ask], replies: Sequence[Sequence[bytes | None]]) -> list[Found]:
    """Return the replies to ``Reads.packed`` by ask."""
    if len(asks) == 1 and asks[0].views:
        return [replies]
    found: list[Found] = []
    start = 0
    for ask in asks:
        if ask.views:
            end = start + len(ask.keys)
            found.append(replies[start:end])
            start = end
        else:
            found.append([()] * len(ask.keys))
    return found


class Template:
    """The constant parts of an HMGET: what stands before a key of some length, and what stands behind.

    Args:
        fields: The fields wanted, at least one.
        prefix: What the names of the hashes begin with, before the key.
        suffix: What they end with.
    """

    def __init__(self, fields: Sequence[bytes], *, prefix: bytes = b"", suffix: bytes = b"") -> None:
        self._prefix = prefix
        self._constant = len(prefix) + len(suffix)
        self._count = len(fields) + 2
        self._heads: dict[int, bytes] = {}
        self._tail = suffix + b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)

    def packed(self, keys: Sequence[bytes]) -> bytes:
        """Return one HMGET a key, at least one, packed as they are sent."""
        tail = self._tail
        if len(keys) == 1:
            return self._head(len(keys[0])) + keys[0] + tail
        lengths = set(map(len, keys))
        if len(lengths) == 1:
            head = self._head(lengths.pop())
            return head + (tail + head).join(keys) + tail
        return b"".join([part for key in keys for part in (self._head(len(key)), key, tail)])

    def _head(self, length: int) -> bytes:
        head = self._heads.get(length)
        if head is None:
            head = b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b" % (self._count, self._constant + length, self._prefix)
            if length < _LENGTHS:
                self._heads[length] = head
        return head


def _quoted(name: str) -> str:
    # A percent sign alone is nothing's quotation: an empty name is not the same as no name.
    return quote(name, safe="", errors="surrogatepass") or "%"
