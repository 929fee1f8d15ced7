"""Kernels that sort: rows by key with a counting sort, then each key's rows by time where they are not yet.

Both are stable, so rows that tie keep the order of the source. Files are mostly written in order of time; then the
second sort only costs a look. ``tests/engine/test_run.py`` holds them to NumPy's ``lexsort``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = [
    "by_digits",
    "by_hash",
    "by_key",
    "hashes",
    "in_order",
    "inserted",
    "joined",
    "matched",
    "order_within",
    "order_within_by_two",
    "sort_few",
    "tally",
]


@kernel
def tally(code: Int64, rows: Int64, n_codes: int) -> tuple[Any, Any]:
    """Count the rows of each code.

    Args:
        code: Each row's code, (n,).
        rows: Which rows; their codes are from 0 to ``n_codes - 1``, (n_rows,).
        n_codes: Codes are below this.

    Returns:
        How many rows each code has, and the first of them (any number where there is none), int64 (n_codes,) each.
    """
    count = np.zeros(n_codes, np.int64)
    seen = np.zeros(n_codes, np.int64)
    for i in rows:
        c = code[i]
        if count[c] == 0:
            seen[c] = i
        count[c] += 1
    return count, seen


@kernel
def by_key(code: Int64, rows: Int64, rank: Int64, first: Int64) -> Int64:
    """Sort rows by the rank of their code, stable.

    Args:
        code: Each row's code, (n,).
        rows: Which rows, in the order that those of one code keep, (n_rows,).
        rank: Each code's rank, (n_codes,).
        first: Where each rank's rows start in the answer, and the end, (n_ranks + 1,).

    Returns:
        Rows in order, int64 (n_rows,).
    """
    order = np.empty(len(rows), np.int64)
    place = first.copy()
    for i in rows:
        r = rank[code[i]]
        order[place[r]] = i
        place[r] += 1
    return order


@kernel
def hashes(key: Int64) -> Any:
    """Mix integers, each to a number of its own; uint64 (n,). The same as ``pandas.util.hash_array`` mixed once more.

    Source: S. Vigna's splitmix64, after G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
    generators" (2014).

    Args:
        key: Integers, (n,).
    """
    answer = np.empty(len(key), np.uint64)
    for i in range(len(key)):
        x = np.uint64(key[i])
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
        x = x ^ (x >> np.uint64(29))
        answer[i] = x ^ (x >> np.uint64(32))
    return answer


@kernel
def sort_few(code: Any, order: Int64, c_scratch: Any, o_scratch: Int64, first: int, stop: int) -> None:
    """Sort neighbours by code, stable: a few by insertion, more by merging.

    Args:
        code: What to sort by, changed, (n,).
        order: Which row each is, changed likewise, (n,).
        c_scratch: Room, as large as the codes.
        o_scratch: Room, as large as the order.
        first: Where the neighbours start.
        stop: Where they end.
    """
    for left in range(first, stop, 16):
        for i in range(left + 1, min(left + 16, stop)):
            c, o = code[i], order[i]
            j = i - 1
            while j >= left and code[j] > c:
                code[j + 1], order[j + 1] = code[j], order[j]
                j -= 1
            code[j + 1], order[j + 1] = c, o
    width = 16
    while width < stop - first:
        for left in range(first, stop, 2 * width):
            middle, end = min(left + width, stop), min(left + 2 * width, stop)
            a, b = left, middle
            for at in range(left, end):
                if b >= end or (a < middle and code[a] <= code[b]):
                    c_scratch[at], o_scratch[at] = code[a], order[a]
                    a += 1
                else:
                    c_scratch[at], o_scratch[at] = code[b], order[b]
                    b += 1
        for at in range(first, stop):
            code[at], order[at] = c_scratch[at], o_scratch[at]
        width *= 2


@kernel
def _by_digit(packed: Any, shift: int, place: Int64, to: Any) -> None:
    """Sort by 11 bits, stable; ``place[d]`` is where the next of digit d goes."""
    digit = np.uint64(shift)
    for one in packed:
        d = (one >> digit) & np.uint64(2047)
        to[place[d]] = one
        place[d] += 1


@kernel
def by_digits(time: Int64, rows: Int64) -> bool:
    """Sort rows by time, stable, digit by digit; False where a time and a place do not fit into one number.

    Args:
        time: What to sort by, (n,).
        rows: Which rows, changed, (n_rows,).
    """
    n, bits, wide = len(rows), 1, 1
    least = greatest = time[rows[0]] if n else 0
    for i in rows:
        least, greatest = min(least, time[i]), max(greatest, time[i])
    span, one = np.uint64(greatest) - np.uint64(least), np.uint64(1)
    while (np.uint64(n) >> np.uint64(bits)) > 0:
        bits += 1
    while wide < 64 and (span >> np.uint64(wide)) > 0:
        wide += 1
    if bits + wide > 64:
        return False
    packed, other = np.empty(n, np.uint64), np.empty(n, np.uint64)
    for at in range(n):
        packed[at] = ((np.uint64(time[rows[at]]) - np.uint64(least)) << np.uint64(bits)) | np.uint64(at)
    for shift in range(bits, bits + wide, 11):
        place = np.zeros(2049, np.int64)
        for at in range(n):
            place[((packed[at] >> np.uint64(shift)) & np.uint64(2047)) + one] += 1
        for d in range(2048):
            place[d + 1] += place[d]
        _by_digit(packed, shift, place, other)
        packed, other = other, packed
    before = rows.copy()
    for at in range(n):
        rows[at] = before[packed[at] & ((one << np.uint64(bits)) - one)]
    return True


@kernel
def _told_apart(codes: Any, order: Int64, c_scratch: Any) -> None:
    """Sort by the whole code what has the same first 33 bits, stable; none of them is in two places."""
    o_scratch = np.empty(0, np.int64)
    start, apart, n = 0, False, len(codes)
    for at in range(1, n + 1):
        if at == n or (codes[at] >> np.uint64(31)) != (codes[start] >> np.uint64(31)):
            if apart:
                if len(o_scratch) == 0:
                    o_scratch = np.empty(n, np.int64)
                sort_few(codes, order, c_scratch, o_scratch, start, at)
            start, apart = at, False
        elif codes[at] != codes[at - 1]:
            apart = True


@kernel
def _distinct(codes: Any) -> tuple[Any, Any]:
    """Where each distinct code starts, and the end; and the distinct codes. They are ascending."""
    n, n_distinct = len(codes), 0
    first = np.empty(n + 1, np.int64)
    for at in range(n):
        first[n_distinct] = at  # counts where a code begins, else is written over: a branch costs more
        n_distinct += int(at == 0 or codes[at] != codes[at - 1])
    first[n_distinct] = n
    distinct = np.empty(n_distinct, np.uint64)
    for at in range(n_distinct):
        distinct[at] = codes[first[at]]
    return first[: n_distinct + 1].copy(), distinct


@kernel
def by_hash(code: Any, rows: Int64) -> tuple[Any, Any, Any]:
    """Sort rows by a hash, stable: by its first 33 bits, which tell nearly all keys apart, then what these left together.

    A hash's first bits and its row travel as one number, which halves what the three passes move.

    Args:
        code: Each row's hash, evenly spread, uint64 (n,); fewer than 2**31.
        rows: Which rows, in the order that those of one hash keep, (n_rows,).

    Returns:
        Rows in order, int64 (n_rows,); where the rows of each distinct hash start, and the end, int64 (n_hashes + 1,);
        and the distinct hashes, uint64 (n_hashes,).
    """
    n, low = len(rows), np.uint64(1)
    while low <= np.uint64(len(code)):
        low <<= np.uint64(1)
    low -= np.uint64(1)  # as many bits as a row needs
    packed, other = np.empty(n, np.uint64), np.empty(n, np.uint64)
    places = np.zeros((3, 2049), np.int64)
    for at in range(n):
        hashed = code[rows[at]]
        packed[at] = (hashed & ~low) | np.uint64(rows[at])
        for digit in range(3):
            places[digit, ((hashed >> np.uint64(31 + 11 * digit)) & np.uint64(2047)) + np.uint64(1)] += 1
    for digit in range(3):
        for d in range(2048):
            places[digit, d + 1] += places[digit, d]
        _by_digit(packed, 31 + 11 * digit, places[digit], other)
        packed, other = other, packed
    order, codes = np.empty(n, np.int64), np.empty(n, np.uint64)
    for at in range(n):
        order[at] = np.int64(packed[at] & low)
    for at in range(n):
        codes[at] = code[order[at]]
    descents = 0
    for at in range(1, n):
        descents += int(codes[at] < codes[at - 1])
    if descents:
        _told_apart(codes, order, other)
    first, distinct = _distinct(codes)
    return order, first, distinct


@kernel
def matched(
    wanted: Int64, there: Int64, first: Int64, before: int, place: Int64, starts: Int64, stops: Int64
) -> None:
    """Find codes among a run's codes, both ascending, and where the rows of those found are.

    Args:
        wanted: The codes looked for, (n_wanted,).
        there: The run's codes, (n_there,).
        first: Where the rows of each of them start, and the end, (n_there + 1,).
        before: How many rows stand before the run's.
        place: Where each code is in the run, -1 where it is not, written to, (n_wanted,).
        starts: Where its rows start, written to where it is found, (n_wanted,).
        stops: Where they end, likewise.
    """
    at = 0
    for i in range(len(wanted)):
        while at < len(there) and there[at] < wanted[i]:
            at += 1
        if at < len(there) and there[at] == wanted[i]:
            place[i] = at
            starts[i], stops[i] = before + first[at], before + first[at + 1]
        else:
            place[i] = -1


@kernel
def joined(starts: Int64, stops: Int64, n: int) -> tuple[Any, Any]:
    """Put ranges of rows one behind the other, key by key.

    Args:
        starts: Where key k's rows start in run r, ``starts[r, k]``, counted over all runs' rows; (n_runs, n_keys).
        stops: Where they end, (n_runs, n_keys).
        n: How many rows that makes.

    Returns:
        Rows in (key, run) order, int64 (n,); and where each key's start, (n_keys + 1,).
    """
    n_runs, n_keys = starts.shape
    order = np.empty(n, np.int64)
    first = np.zeros(n_keys + 1, np.int64)
    at = 0
    for k in range(n_keys):
        for r in range(n_runs):
            for i in range(starts[r, k], stops[r, k]):
                order[at] = i
                at += 1
        first[k + 1] = at
    return order, first


@kernel
def in_order(first: Int64, time: Int64, then: Int64) -> bool:
    """Tell whether each key's rows are in order of (time, then)."""
    for k in range(len(first) - 1):
        for i in range(first[k] + 1, first[k + 1]):
            if time[i] < time[i - 1] or (time[i] == time[i - 1] and then[i] < then[i - 1]):
                return False
    return True


@kernel
def _merge_sort(time: Int64, then: Int64, order: Int64, scratch: Int64, first: int, stop: int) -> None:
    """Sort ``order[first:stop]`` by (time, then), stable; numba's own argsort takes seconds longer to compile."""
    width = 1
    while width < stop - first:
        for left in range(first, stop, 2 * width):
            middle, end = min(left + width, stop), min(left + 2 * width, stop)
            a, b = left, middle
            for at in range(left, end):
                left_first = b >= end
                if not left_first and a < middle:
                    x, y = order[a], order[b]
                    left_first = time[x] < time[y] or (time[x] == time[y] and then[x] <= then[y])
                if left_first:
                    scratch[at] = order[a]
                    a += 1
                else:
                    scratch[at] = order[b]
                    b += 1
        for at in range(first, stop):  # assigning a slice takes numba seconds to compile
            order[at] = scratch[at]
        width *= 2


@kernel
def inserted(time: Int64, then: Int64, order: Int64, first: int, stop: int) -> bool:
    """Sort what is nearly in order, stable, by moving the few that are late; False where they are too many.

    Args:
        time: What to sort by, by row.
        then: What to sort equal times by, by row.
        order: Which row stands at each position, changed.
        first: The first position.
        stop: The position after the last.
    """
    moves = 8 * (stop - first)
    for i in range(first + 1, stop):
        x = order[i]
        t, u = time[x], then[x]
        j = i - 1
        while j >= first and (time[order[j]] > t or (time[order[j]] == t and then[order[j]] > u)):
            order[j + 1] = order[j]
            j -= 1
            moves -= 1
        order[j + 1] = x
        if moves < 0:
            return False
    return True


@kernel
def order_within_by_two(first: Int64, time: Int64, then: Int64) -> Int64:
    """Sort each key's rows by (time, then), stable; int64 (n,).

    Args:
        first: Key k's rows are at positions ``first[k]`` to ``first[k + 1] - 1``; (n_keys + 1,).
        time: What to sort by, (n,).
        then: What to sort equal times by, (n,).
    """
    order = np.arange(len(time))
    scratch = np.empty(0, np.int64)
    for k in range(len(first) - 1):
        for i in range(first[k] + 1, first[k + 1]):
            if time[i] < time[i - 1] or (time[i] == time[i - 1] and then[i] < then[i - 1]):
                if not inserted(time, then, order, first[k], first[k + 1]):
                    if len(scratch) == 0:
                        scratch = np.empty(len(time), np.int64)
                    _merge_sort(time, then, order, scratch, first[k], first[k + 1])
                break
    return order


def order_within(first: Int64, time: Int64) -> Int64:
    """Sort each key's rows by time, stable; see ``order_within_by_two``."""
    return order_within_by_two(first, time, time)
