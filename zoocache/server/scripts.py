"""Lua scripts that run inside the server, and the prelude that they share.

A script is one step of the server: nobody sees half of it, and no other runs meanwhile. `PRELUDE` is the one place that
knows how the hash of numbers is made, grows, and tells others: the scripts of stores and buses begin with it.

The hash (key `numbers`) holds, besides the paths:

    epoch    16 hex digits, random; there is a hash exactly as long as there is an epoch
    n        how many invalidations there were
    floor    the highest number that was dropped: whatever is older is stale
    mark     8 random bytes of the latest invalidation that the others were told about: two histories differ in it
    <path>   "n wall_ms" of its last invalidation; 16 raw bytes, so it is none of the others

The stream has an entry "n-0" for each invalidation that the others are told about, with one field, `payload`: its mark
and the mark before it (8 bytes each), and behind them the message. What is published is "epoch n ", then the same.

The hash is made, with the epoch that the caller brings along, by whichever script finds no whole one: after FLUSHALL,
an eviction, or a restart of a server that keeps nothing. That drops the stream too, whose ids belong to the old
numbers; entries carry their epoch, so all of them are stale.

Lua counts in doubles: all numbers stay below 2**53, and are written by `whole`, for `tostring` would round them. The
only clock is the server's. A script that only reads begins with PERSIST, a write that changes nothing: a replica, which
may be behind its master, refuses it, so nobody believes a replica. That the server then lets the script write though it
is out of memory is what an invalidation needs; a save writes its entry first, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zoocache.server.resp import Argument, pack

try:
    from _sha1 import sha1  # type: ignore[import-not-found,unused-ignore]  # as `zoocache.digests`: without OpenSSL
except ImportError:
    from hashlib import sha1

LARGEST_N = 9_000_000_000_000_000
"""The highest number; what would go beyond begins a new epoch. It is below 2**53."""

LEAP = 1 << 32
"""By so much the numbers grow where some were lost: nobody can have had more of them."""

STREAM_LENGTH = 10_000
"""So many invalidations can be read again, or a few more."""


class Script(NamedTuple):
    """A script. Made by `script`.

    Attributes:
        text: all of it.
        sha: its name in a server that has it: SHA-1 of the text, in hex digits.
    """

    text: bytes
    sha: bytes

    def by_name(self, keys: Sequence[bytes], arguments: Sequence[Argument]) -> bytes:
        """The command that runs it, if the server has it."""
        return pack((b"EVALSHA", self.sha, len(keys), *keys, *arguments))

    def in_full(self, keys: Sequence[bytes], arguments: Sequence[Argument]) -> bytes:
        """The command that runs it, and leaves it with the server."""
        return pack((b"EVAL", self.text, len(keys), *keys, *arguments))


def script(*parts: str) -> Script:
    """A script of these parts."""
    text = "\n".join(parts).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


PRELUDE = f"""
local LARGEST, LEAP = {LARGEST_N}, {LEAP}

local function whole(number) return string.format('%.0f', number) end

-- A whole number that was written as text; nil if it is none.
local function number(text)
  return text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text) or nil
end

-- The server's clock, in milliseconds.
local function time_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Begin another life: everything older is stale.
local function begin_anew(numbers, stream, epoch)
  redis.call('DEL', numbers, stream)
  redis.call('HSET', numbers, 'epoch', epoch, 'n', 0, 'floor', 0, 'mark', '00000000')
  return {{epoch = epoch, n = 0, floor = 0, mark = '00000000'}}
end

-- What the hash says of itself. `fresh`: the epoch to begin with, if there is no whole hash.
local function read_own(numbers, stream, fresh)
  local own = redis.pcall('HMGET', numbers, 'epoch', 'n', 'floor', 'mark')  -- an error if it is no hash
  local epoch, n, floor, mark = own[1], number(own[2]), number(own[3]), own[4]
  local is_named = epoch and #epoch == 16 and string.find(epoch, '^[0-9a-f]+$') and string.find(epoch, '[^0]')
  if not (is_named and n and n <= LARGEST and floor and floor <= n and mark and #mark == 8) then
    return begin_anew(numbers, stream, fresh)
  end
  return {{epoch = epoch, n = n, floor = floor, mark = mark}}
end

-- Make a replica refuse this script.
local function refuse_on_replica(numbers) redis.call('PERSIST', numbers) end

-- One more invalidation. `own` is what read_own returned; `fresh` as there, should the numbers come to their end.
local function next_n(numbers, stream, own, mark, fresh)
  if own.n >= LARGEST then
    local anew = begin_anew(numbers, stream, fresh)
    own.epoch, own.n, own.floor, own.mark = anew.epoch, anew.n, anew.floor, anew.mark
  end
  own.n, own.next_mark = own.n + 1, mark
  redis.call('HSET', numbers, 'n', whole(own.n))
end

-- The n of the last invalidation of a path, of what HGET or HMGET found; 0 if there was none, above all if it is
-- not to be read.
local function path_n(found)
  if not found then return 0 end
  return number(string.match(found, '^(%d+) ')) or math.huge
end

-- Raise these paths to the n that next_n made: ARGV[first] to ARGV[last].
local function raise_paths(numbers, own, first, last)
  local value = whole(own.n) .. ' ' .. whole(time_ms())
  for index = first, last do redis.call('HSET', numbers, ARGV[index], value) end
end

-- Everything up to the n that next_n made is stale; so no path's own number matters any more.
local function overtake_all(numbers, own)
  own.floor = own.n
  redis.call('UNLINK', numbers)
  redis.call('HSET', numbers, 'epoch', own.epoch, 'n', whole(own.n), 'floor', whole(own.n), 'mark', own.mark)
end

-- Whether these numbers contradict what somebody knew of them: the epoch, n, and the mark of the last message up to it
-- (an epoch of '' for nothing known). Then the server has lost what it had told, and knows less than its entries were
-- made with. The next message names the mark before it; where the stream does not reach back so far, nobody can tell.
local function contradicts(stream, own, epoch, n, mark)
  if epoch == '' then return false end
  if own.epoch ~= epoch or own.n < n then return true end
  if own.n == n and own.mark == mark then return false end  -- mostly nothing has happened since
  local found = redis.pcall('XRANGE', stream, whole(n + 1) .. '-0', '+', 'COUNT', 1)
  if found.err then return false end
  local behind = found[1]
  if (behind and string.sub(behind[2][2], 9, 16) or own.mark) == mark then return false end
  if behind and behind[1] == whole(n + 1) .. '-0' then return true end
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return oldest ~= nil and (number(string.match(oldest[1], '^%d+')) or math.huge) <= n
end

-- The same, of what is known in one piece: epoch, 16 digits of n, mark; '' for nothing.
local function has_forgotten(stream, own, known)
  if known == '' then return false end
  return contradicts(stream, own, string.sub(known, 1, 16), number(string.sub(known, 17, 32)), string.sub(known, 33))
end

-- Tell the others about the n that next_n made: its mark, that of the last one that they were told about (so each
-- message proves that it is the next one, and a history with a piece of another one in it is found out), the payload.
local function announce(numbers, stream, channel, own, payload)
  local n, message = whole(own.n), own.next_mark .. own.mark .. payload
  own.mark = own.next_mark
  redis.call('HSET', numbers, 'mark', own.mark)
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', {STREAM_LENGTH}, n .. '-0', 'payload', message)
  if type(added) == 'table' and added.err then
    redis.call('DEL', stream)  -- it is of another life, or no stream
    redis.call('XADD', stream, 'MAXLEN', '~', {STREAM_LENGTH}, n .. '-0', 'payload', message)
  end
  redis.call('PUBLISH', channel, own.epoch .. ' ' .. n .. ' ' .. message)
end

-- What was known up to n of an epoch is lost: overtake everything. The numbers leap: one that somebody has from before
-- (a fill under way, in a process that stood still) must not be given again, to what overtakes just that fill.
-- `payload` says so to the others.
local function overtake_lost(numbers, stream, channel, own, epoch, n, mark, fresh, payload)
  own.n = (own.epoch == epoch and math.max(own.n, n) or own.n) + LEAP
  next_n(numbers, stream, own, mark, fresh)
  overtake_all(numbers, own)
  announce(numbers, stream, channel, own, payload)
end
"""
"""Functions for the scripts of stores and buses: what each is for stands above it."""
