"""What the bus does inside the server, in Lua; each script begins with the prelude of `zoocache.server.scripts`."""

from __future__ import annotations

from zoocache.server.scripts import PRELUDE, script

MOST_NUMBERS = 1_000_000
"""Of more tags than these the server keeps no numbers: all of them are dropped, and the floor rises. Where nobody keeps
entries nobody prunes them either, and they take about 100 bytes each."""

SEND = script(
    PRELUDE,
    f"""
    -- KEYS: numbers, stream, channel. ARGV: fresh epoch, mark, payload, what is known (epoch or "", n, mark), what is
    -- told instead if that is lost, "clear" or "", paths. Returns epoch and n.
    refuse_on_replica(KEYS[1])
    local own, known_n = read_own(KEYS[1], KEYS[2], ARGV[1]), tonumber(ARGV[5])
    if contradicts(KEYS[2], own, ARGV[4], known_n, ARGV[6]) then
      overtake_lost(KEYS[1], KEYS[2], KEYS[3], own, ARGV[4], known_n, ARGV[2], ARGV[1], ARGV[7])
      return {{own.epoch, whole(own.n)}}
    end
    next_n(KEYS[1], KEYS[2], own, ARGV[2], ARGV[1])
    if ARGV[8] == 'clear' or redis.call('HLEN', KEYS[1]) > {MOST_NUMBERS} then
      overtake_all(KEYS[1], own)
    else
      raise_paths(KEYS[1], own, 9, #ARGV)
    end
    announce(KEYS[1], KEYS[2], KEYS[3], own, ARGV[3])
    return {{own.epoch, whole(own.n)}}
    """,
)  # fmt: skip

SINCE = script(
    PRELUDE,
    """
    -- KEYS: numbers, stream. ARGV: fresh epoch, the last epoch and n that are known, how many messages at most, what
    -- else is known (epoch or "", n, mark). Returns epoch, n, mark, messages after the known one, the oldest there is
    -- (neither for another epoch), 1 if what else is known is lost.
    refuse_on_replica(KEYS[1])
    local own = read_own(KEYS[1], KEYS[2], ARGV[1])
    local found, oldest = {}, {}
    if own.epoch == ARGV[2] and own.n > tonumber(ARGV[3]) then
      found = redis.pcall('XRANGE', KEYS[2], whole(tonumber(ARGV[3]) + 1) .. '-0', '+', 'COUNT', ARGV[4])
      oldest = redis.pcall('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
      if found.err then found, oldest = {}, {} end  -- it is no stream
    end
    local is_lost = contradicts(KEYS[2], own, ARGV[5], tonumber(ARGV[6]), ARGV[7])
    return {own.epoch, whole(own.n), own.mark, found, oldest, is_lost and 1 or 0}
    """,
)

RAISE = script(
    PRELUDE,
    """
    -- KEYS: numbers, stream, channel. ARGV: fresh epoch, mark, payload, the epoch and n that were known. Returns n.
    -- Each host that finds another history does it: what one has heard, from a server that went on by itself for a
    -- while, another's floor may be too old for.
    refuse_on_replica(KEYS[1])
    local own = read_own(KEYS[1], KEYS[2], ARGV[1])
    overtake_lost(KEYS[1], KEYS[2], KEYS[3], own, ARGV[4], tonumber(ARGV[5]), ARGV[2], ARGV[1], ARGV[3])
    return whole(own.n)
    """,
)
