"""How the Redis store keeps to `max_entries`, in Lua: a part of the script that saves (redis_scripts.py).

USED is a sorted set: digest -> when the entry was last used, in the server's ms. The server drops entries by itself,
when they expire or when it runs out of memory, and knows nothing of the set. So what is gone still counts, until
somebody forgets it; and not by its place in the order: what lives for a second may be used last of all. What is lost
with the set (a restart, a FLUSHALL, a failover) is lost with the entries, or counts again from its next save on.
"""

from __future__ import annotations

SAMPLE = 64
"""So many members does a save look at that finds too many. Of a set that is smaller it sees all; where a twentieth or
more is gone, it finds some of that in 26 of 27 cases."""

LIMIT = f"""
local HEX, PAD = string.rep('%02x', 16), string.rep('\\0', 16)  -- padded: what is no digest is no key either

local function entry_of(root, digest) return root .. string.format(HEX, string.byte(digest .. PAD, 1, 16)) end

-- Forget some that are gone: expired, or evicted by the server. They are anywhere in the order of use, so a random
-- sample is looked at, as the server does for its own expired keys. How many; none before Redis 6.2, which has no
-- ZRANDMEMBER.
local function forget_gone(root)
  local gone = {{}}
  for _, digest in ipairs(redis.pcall('ZRANDMEMBER', USED, {SAMPLE})) do
    if redis.call('EXISTS', entry_of(root, digest)) == 0 then gone[#gone + 1] = digest end
  end
  if #gone > 0 then redis.call('ZREM', USED, unpack(gone)) end
  return #gone
end

-- If there are too many: forget what is gone, and if that is not enough, drop what was unused for longest, some more
-- than need be, so that not every save has to.
local function limit(now, saved, root)
  redis.call('ZADD', USED, whole(now), saved)
  local over = redis.call('ZCARD', USED) - MOST
  if over > 0 then over = over - forget_gone(root) end
  if over <= 0 then return end
  local oldest = redis.call('ZRANGE', USED, 0, math.min(over + math.floor(MOST / 16), BATCH) - 1)
  local digests, keys = {{}}, {{}}
  for _, digest in ipairs(oldest) do
    if digest ~= saved then
      digests[#digests + 1] = digest
      keys[#keys + 1] = entry_of(root, digest)
    end
  end
  if #keys == 0 then return end
  redis.call('ZREM', USED, unpack(digests))
  redis.call('UNLINK', unpack(keys))
end
"""
"""Uses what stands before all scripts of the store: USED, MOST, BATCH."""
