"""The Lua that decides inside Redis which value stays: one atomic call for hundreds of rows.

Versions are compared as four unsigned 32-bit numbers: Lua's numbers are doubles, which hold these exactly and a
64-bit one not, and its ``<`` of strings goes by the server's locale. ``tests/online/test_redis_scripts.py`` holds
the comparison equal to Python's over bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mlflow_core.online.head import KIND_AT, SCHEMA_AT, Kind

__all__ = ["BEGIN", "DECLARE", "DEFINE", "ERASE", "FINISH", "PLACE", "STALE", "STORE", "WRITE", "Script"]

STALE = "MLCSTALE"
"""How the error of a definition that has been replaced begins; the newest schema follows."""


@dataclass(frozen=True)
class Script:
    """A script and the digest that Redis knows it by.

    Attributes:
        text: Its source.
        digest: SHA-1 of the source, hexadecimal.
    """

    text: bytes
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest.encode())


# Lua counts bytes from 1.
_KIND = KIND_AT + 1
_SCHEMA = f"{SCHEMA_AT.start + 1}, {SCHEMA_AT.stop}"

_VERSIONS = f"""
local unpack4, byte, sub, call = struct.unpack, string.byte, string.sub, redis.call
local function wins(new, old)
  local a, b, c, d = unpack4('>I4I4I4I4', new)
  local e, f, g, h = unpack4('>I4I4I4I4', old)
  local greater
  if a ~= e then greater = a > e
  elseif b ~= f then greater = b > f
  elseif c ~= g then greater = c > g
  else greater = d > h end
  return greater or (byte(old, {_KIND}) ~= {Kind.TOMBSTONE} and sub(old, {_SCHEMA}) ~= sub(new, {_SCHEMA}))
end
"""

_TIMES = """
local function later(one, other)
  local a, b = struct.unpack('>I4I4', one)
  local c, d = struct.unpack('>I4I4', other)
  return a > c or (a == c and b > d)
end
"""

_PLACES = """
local function place(view, columns)
  local lines = redis.call('HGET', KEYS[1], 'k' .. view) or '\\n'
  if not string.find(lines, '\\n' .. columns .. '\\n', 1, true) then
    redis.call('HSET', KEYS[1], 'k' .. view, lines .. columns .. '\\n')
  end
end
"""

# KEYS[1] the project's hash; ARGV view, columns, schema.
_DEFINE = f"""
local view, schema = ARGV[1], ARGV[3]
local known = redis.call('HGET', KEYS[1], 'd' .. view) or ''
if string.sub(known, -8) ~= schema then
  for i = 1, #known, 8 do
    if string.sub(known, i, i + 7) == schema then
      local newest = string.gsub(string.sub(known, -8), '.', function(c) return string.format('%02x', string.byte(c)) end)
      return redis.error_reply('{STALE} ' .. newest)
    end
  end
  redis.call('HSET', KEYS[1], 'd' .. view, known .. schema)
end
place(view, ARGV[2])
"""

# After a row that was new the next one is likely to be: HSETNX tells and writes in one call.
_ROWS = """
local changed, fresh = 0, true
for i = FIRST, #KEYS do
  local key, new = KEYS[i], ARGV[i + SHIFT]
  if fresh and call('HSETNX', key, field, new) == 1 then
    changed = changed + 1
  else
    local old = call('HGET', key, field)
    fresh = not old
    if fresh or wins(new, old) then
      call('HSET', key, field, new)
      changed = changed + 1
    end
  end
end
return changed
"""

WRITE = Script(
    (
        _VERSIONS
        + _PLACES
        + _DEFINE
        + "local field = ARGV[4]"
        + _ROWS.replace("FIRST", "2").replace("SHIFT", "3")
    ).encode()
)
"""KEYS the project's hash, then a hash a row; ARGV view, columns, schema, the view's field, then a value a row.
Returns the changes."""

STORE = Script(
    (_VERSIONS + "local field = ARGV[1]" + _ROWS.replace("FIRST", "1").replace("SHIFT", "1")).encode()
)
"""KEYS a hash a row; ARGV the view's field, then a value a row. What WRITE does after its definition has been checked."""

DEFINE = Script((_PLACES + _DEFINE + "return 0").encode())
"""KEYS the project's hash; ARGV view, columns, schema. What WRITE does before its rows."""

DECLARE = Script(
    (
        _PLACES
        + """
local view, schema = ARGV[1], ARGV[3]
local known = redis.call('HGET', KEYS[1], 'd' .. view) or ''
if string.sub(known, -8) ~= schema then
  local others = {}
  for i = 1, #known, 8 do
    local one = string.sub(known, i, i + 7)
    if one ~= schema then others[#others + 1] = one end
  end
  redis.call('HSET', KEYS[1], 'd' .. view, table.concat(others) .. schema)
end
place(view, ARGV[2])
return 0
"""
    ).encode()
)
"""KEYS the project's hash; ARGV view, columns, schema."""

BEGIN = Script(
    (
        _TIMES
        + _PLACES
        + """
local old = redis.call('HGET', KEYS[1], 'b' .. ARGV[1])
if not old or later(ARGV[3], old) then redis.call('HSET', KEYS[1], 'b' .. ARGV[1], ARGV[3]) end
place(ARGV[1], ARGV[2])
return 0
"""
    ).encode()
)
"""KEYS the project's hash; ARGV view, columns, boundary (8 bytes that compare)."""

FINISH = Script(
    (
        _TIMES
        + """
local old = redis.call('HGET', KEYS[1], 'b' .. ARGV[1])
if old and not later(old, ARGV[3]) then redis.call('HDEL', KEYS[1], 'b' .. ARGV[1]) end
return 0
"""
    ).encode()
)
"""KEYS the project's hash; ARGV view, columns, boundary (8 bytes that compare)."""

ERASE = Script(
    (
        _TIMES
        + f"""
local taken, all = 0, ARGV[2] == '1'
for _, key in ipairs(KEYS) do
  for i = 3, #ARGV do
    local old, grave = redis.call('HGET', key, ARGV[i]), ARGV[1]
    local stays = old and later(old, grave)
    if stays and not all then
      grave = old
    elseif old then
      if stays then grave = string.sub(old, 1, 8) .. string.sub(grave, 9) end
      if string.byte(old, {_KIND}) ~= {Kind.TOMBSTONE} then taken = taken + 1 end
    end
    if old ~= grave then redis.call('HSET', key, ARGV[i], grave) end
  end
end
return taken
"""
    ).encode()
)
"""KEYS a hash a key; ARGV the tombstone, 1 to erase later versions too, then the views' fields. Returns how many."""

PLACE = Script((_PLACES + "for i = 2, #ARGV do place(ARGV[i], ARGV[1]) end return 0").encode())
"""KEYS the project's hash; ARGV columns, then views: notes where their rows are."""
