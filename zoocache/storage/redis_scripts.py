"""What the Redis store does inside the server, in Lua; each begins with the prelude of `zoocache.server.scripts`.

All take the same first keys and arguments:

    KEYS[1] numbers   KEYS[2] stream   KEYS[3] used   then their own
    ARGV[1] an epoch to begin with, if the numbers are lost; behind it, to be compared, what the caller's host knows
    of them (epoch, 16 digits of n, mark): a server that has lost it says FORGOT
    ARGV[2] this moment in ms, "" for the server's clock
    ARGV[3] how many entries there may be, "" for no limit   then their own

Entries that are evicted are named in no KEYS: which ones, only the script finds out. They have the hash tag of the
others, so they lie on the same node of a cluster.
"""

from __future__ import annotations

from zoocache.server.scripts import PRELUDE, Script, script
from zoocache.storage.redis_limit import LIMIT
from zoocache.storage.redis_record import FORMAT, HEAD_SIZE

USED_EVERY_MS = 1000
"""The last use of an entry is noted at most so often: reading writes little."""

BATCH = 500
"""So many entries or numbers does one step of a prune look at."""

_COMMON = f"""
local NUMBERS, STREAM, USED = KEYS[1], KEYS[2], KEYS[3]
local FRESH, KNOWN, MOST = string.sub(ARGV[1], 1, 16), string.sub(ARGV[1], 17), tonumber(ARGV[3])
local FORMAT, HEAD, BATCH, UNKNOWN = '{FORMAT.decode()}', {HEAD_SIZE}, {BATCH}, math.huge

local function now_ms() return tonumber(ARGV[2]) or time_ms() end

local FORGOT = {{err = 'FORGOT what this host knows'}}

local function digits(number) return string.format('%016.0f', number) end

-- The head of a record; nil if it is malformed or of another release.
local function head_of(record)
  if not record or type(record) ~= 'string' or #record < HEAD or string.sub(record, 1, 4) ~= FORMAT then
    return nil
  end
  local head = {{
    epoch = string.sub(record, 5, 20),
    n = number(string.sub(record, 21, 36)), key_n = number(string.sub(record, 37, 52)),
    ttl = number(string.sub(record, 53, 68)), max_age = number(string.sub(record, 69, 84)),
    made = number(string.sub(record, 85, 100)), touched = number(string.sub(record, 101, 116)),
    sliding = string.sub(record, 117, 117) == 'S', paths = number(string.sub(record, 118, 123)),
  }}
  local whole_head = head.n and head.key_n and head.ttl and head.max_age and head.made and head.touched and head.paths
  return whole_head and head or nil
end

-- Whether one of these paths, 16 bytes each, was overtaken after n.
local function overtaken(own, n, paths)
  if n > own.n or own.floor > n then return true end
  if n == own.n then return false end
  for from = 1, #paths, 16000 do
    local fields = {{}}
    for at = from, math.min(from + 15999, #paths), 16 do fields[#fields + 1] = string.sub(paths, at, at + 15) end
    for _, found in ipairs(redis.call('HMGET', NUMBERS, unpack(fields))) do
      if path_n(found) > n then return true end
    end
  end
  return false
end

local function is_valid(own, head, digest, paths)
  return head.epoch == own.epoch and not overtaken(own, head.n, paths)
    and path_n(redis.call('HGET', NUMBERS, digest)) <= head.key_n
end

-- How old a moment is. The clock may have gone back a little, with another server; if it is more, nobody knows.
local function age_ms(moment, now)
  if moment > now + 10000 then return UNKNOWN end
  return math.max(0, now - moment)
end

-- What is left of ttl and of the greatest age, in ms; nil for no limit. The first is 0 or less if it has expired.
local function left_ms(head, now)
  local age_left = head.max_age > 0 and head.max_age - age_ms(head.made, now) or nil
  local left = head.ttl > 0 and head.ttl - age_ms(head.touched, now) or age_left
  if left and age_left then left = math.min(left, age_left) end
  return left, age_left
end

local function expire(entry, left)
  -- A test's own clock lets nothing expire by the server's.
  if left and ARGV[2] == '' then redis.call('PEXPIRE', entry, whole(math.max(1, left))) end
end

local function note_use(digest, now)
  if not MOST then return end
  local last = redis.call('ZSCORE', USED, digest)
  if last and now - tonumber(last) >= {USED_EVERY_MS} then redis.call('ZADD', USED, 'XX', whole(now), digest) end
end

-- {{record, left, age left}}, -1 for no limit; nil if there is no valid, living entry.
local function load(own, entry, digest)
  local record = redis.pcall('GET', entry)
  local head = head_of(record)
  if not head or #record < HEAD + 16 * head.paths then return nil end
  if not is_valid(own, head, digest, string.sub(record, HEAD + 1, HEAD + 16 * head.paths)) then return nil end
  local left, age_left = nil, nil
  if head.ttl > 0 or head.max_age > 0 or MOST then
    local now = now_ms()
    left, age_left = left_ms(head, now)
    if left and left <= 0 then return nil end
    note_use(digest, now)
  end
  return {{record, left or -1, age_left or -1}}
end
"""


def _script(*texts: str) -> Script:
    return script(PRELUDE, _COMMON, *texts)


STAMP = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    if has_forgotten(STREAM, own, KNOWN) then return FORGOT end
    return {own.epoch, own.n}
    """
)
"""Returns epoch and n."""

LOAD = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    if has_forgotten(STREAM, own, KNOWN) then return FORGOT end
    return load(own, KEYS[4], ARGV[4])
    """
)
"""KEYS[4] entry; ARGV[4] digest. Returns record, left and age left, or nothing."""

CLAIM = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    if has_forgotten(STREAM, own, KNOWN) then return FORGOT end
    local loaded = load(own, KEYS[4], ARGV[4])
    if loaded then return {'loaded', loaded} end
    local failure = KEYS[6] and redis.call('GET', KEYS[6])
    if failure then return {'failed', failure} end
    if redis.call('SET', KEYS[5], ARGV[5], 'NX', 'PX', ARGV[6]) then return {'leads', own.epoch, own.n} end
    local holder = redis.call('GET', KEYS[5])
    if holder ~= ARGV[5] then return {'waits', holder} end
    redis.call('PEXPIRE', KEYS[5], ARGV[6])
    return {'leads', own.epoch, own.n}
    """
)
"""KEYS[4] entry, [5] lease, [6] failure of the flight that was followed, if any; ARGV[4] digest, [5] token, [6] for how
many ms the lease is taken. Returns a word and what belongs to it."""

RENEW = _script(
    """
    refuse_on_replica(NUMBERS)
    local renewed = {}
    for index = 4, #KEYS do
      local is_own = redis.call('GET', KEYS[index]) == ARGV[index + 1]
      if is_own then redis.call('PEXPIRE', KEYS[index], ARGV[4]) end
      renewed[index - 3] = is_own and 1 or 0
    end
    return renewed
    """
)
"""KEYS[4...] leases; ARGV[4] lease_ms, [5...] their tokens. Returns 1 for each that still was the token's, else 0."""

END = _script(
    """
    refuse_on_replica(NUMBERS)
    if redis.call('GET', KEYS[4]) == ARGV[4] then redis.call('UNLINK', KEYS[4]) end
    if ARGV[5] ~= '' then redis.call('SET', KEYS[5], string.sub(ARGV[5], 2), 'PX', ARGV[6]) end
    """
)
"""KEYS[4] lease, [5] failure; ARGV[4] token, [5] "+" and how it failed, or "", [6] how long that stays, in ms."""

SAVE = _script(
    LIMIT,
    """
    local own, n = read_own(NUMBERS, STREAM, FRESH), tonumber(ARGV[6])
    local key_n, mark, rest, known_n = n, ARGV[7], ARGV[9], tonumber(ARGV[14])
    if ARGV[12] and contradicts(STREAM, own, ARGV[13], known_n, ARGV[15]) then
      overtake_lost(NUMBERS, STREAM, KEYS[5], own, ARGV[13], known_n, mark, FRESH, ARGV[16])
      return nil
    end
    local paths = string.sub(rest, 8, 7 + 16 * tonumber(string.sub(rest, 2, 7)))
    if ARGV[5] ~= own.epoch or overtaken(own, n, paths) then return nil end
    local is_late = ARGV[11] ~= '' and path_n(redis.call('HGET', NUMBERS, ARGV[4])) > n
    if mark == '' and is_late then return nil end
    if mark ~= '' then
      next_n(NUMBERS, STREAM, own, mark, FRESH)
      if own.epoch ~= ARGV[5] then return nil end
      redis.call('HSET', NUMBERS, ARGV[4], whole(own.n) .. ' ' .. whole(now_ms()))
      key_n = own.n
      if ARGV[12] then announce(NUMBERS, STREAM, KEYS[5], own, ARGV[12]) end
      if is_late then return nil end
    end
    local now = now_ms()
    local record = FORMAT .. own.epoch .. digits(n) .. digits(key_n) .. ARGV[8] .. digits(now) .. digits(now) .. rest
    redis.call('SET', KEYS[4], record)
    expire(KEYS[4], left_ms(head_of(record), now))
    if MOST then limit(now, ARGV[4], ARGV[10]) end
    return key_n
    """,
)
"""KEYS[4] entry, [5] channel; ARGV[4] digest, [5] epoch and [6] n of the stamp, [7] a mark if the key is set anew, else
"", [8] life and [9] rest of the record, [10] what the keys of entries begin with, [11] not "" if what overtook the key
since the stamp overtakes this too; where the other hosts are told of a key that is set anew: [12] what, [13...] what is
known of the numbers (epoch or "", n, mark), [16] what is told if that is lost. Returns the entry's n, that of its key
if it is set anew; nothing if it was overtaken."""

DELETE = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    local was_living = load(own, KEYS[4], ARGV[4])
    redis.call('UNLINK', KEYS[4])
    next_n(NUMBERS, STREAM, own, ARGV[5], FRESH)
    redis.call('HSET', NUMBERS, ARGV[4], whole(own.n) .. ' ' .. whole(now_ms()))
    if MOST then redis.call('ZREM', USED, ARGV[4]) end
    return was_living and 1 or 0
    """
)
"""KEYS[4] entry; ARGV[4] digest, [5] mark. Returns 1 if a living entry was there, else 0."""

INVALIDATE = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    next_n(NUMBERS, STREAM, own, ARGV[4], FRESH)
    local value = whole(own.n) .. ' ' .. whole(now_ms())
    for index = 5, #ARGV do redis.call('HSET', NUMBERS, ARGV[index], value) end
    return own.n
    """
)
"""ARGV[4] mark, [5...] paths. Returns n."""

TOUCH = _script(
    """
    refuse_on_replica(NUMBERS)
    local now = now_ms()
    for index = 4, #KEYS do
      local head = head_of(redis.pcall('GETRANGE', KEYS[index], 0, HEAD - 1))
      local left = head and left_ms(head, now)
      if left and head.sliding and left > 0 and head.touched < now then
        redis.call('SETRANGE', KEYS[index], 100, digits(now))
        head.touched = now
        expire(KEYS[index], left_ms(head, now))
        note_use(ARGV[index], now)
      end
    end
    """
)
"""KEYS[4...] entries; ARGV[4...] their digests."""

CLEAR = _script(
    """
    refuse_on_replica(NUMBERS)
    local own = read_own(NUMBERS, STREAM, FRESH)
    next_n(NUMBERS, STREAM, own, ARGV[4], FRESH)
    overtake_all(NUMBERS, own)
    if MOST then redis.call('UNLINK', USED) end
    """
)
"""ARGV[4] mark."""

PRUNE_NUMBERS = _script(
    """
    local own = read_own(NUMBERS, STREAM, FRESH)
    local before, now, up_to, most = tonumber(ARGV[5]), now_ms(), 0, tonumber(ARGV[6])
    if most then
      local count = redis.call('HLEN', NUMBERS)
      if count <= most then return {'0', 0} end
      up_to = own.n - math.floor(most / 2)
    end
    local old, floor = {}, own.floor
    local page = redis.call('HSCAN', NUMBERS, ARGV[4], 'COUNT', BATCH)
    for index = 1, #page[2], 2 do
      local field, value = page[2][index], page[2][index + 1]
      local n, at = path_n(value), number(string.match(value, ' (%d+)$')) or 0
      if #field == 16 and (n <= up_to or (before and now - at >= before)) then
        old[#old + 1] = field
        floor = math.max(floor, math.min(own.n, n))
      end
    end
    if #old > 0 then
      redis.call('HSET', NUMBERS, 'floor', whole(floor))
      for _, field in ipairs(old) do redis.call('HDEL', NUMBERS, field) end
    end
    return {page[1], #old}
    """
)
"""ARGV[4] where to go on, [5] how old the invalidation must be, in ms, or "", [6] "", or how many numbers there may be
before the older half of them is dropped. Returns where to go on, and how many it dropped."""

PRUNE_ENTRIES = _script(
    """
    refuse_on_replica(NUMBERS)
    local own, now, gone = read_own(NUMBERS, STREAM, FRESH), now_ms(), {}
    for index = 4, #KEYS do
      local head = head_of(redis.pcall('GETRANGE', KEYS[index], 0, HEAD - 1))
      if head then
        local left, digest = left_ms(head, now), ARGV[index]
        local paths = redis.call('GETRANGE', KEYS[index], HEAD, HEAD + 16 * head.paths - 1)
        if (left and left <= 0) or not is_valid(own, head, digest, paths) then
          gone[#gone + 1] = KEYS[index]
          if MOST then redis.call('ZREM', USED, digest) end
        end
      end
    end
    if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
    return #gone
    """
)
"""KEYS[4...] entries; ARGV[4...] their digests. Returns how many it dropped."""

SIZES = script(
    """
    local sum = 0
    for _, key in ipairs(KEYS) do
      local size = redis.pcall('STRLEN', key)
      if type(size) == 'number' then sum = sum + size + #key end
    end
    return sum
    """
)
"""KEYS entries. Returns the bytes of all."""
