"""The segment's format: which word lives where.

All live words are native, aligned u64, read and written one at a time through `memoryview.cast("Q")`: such a load or
store is one machine instruction on 64-bit CPUs and is never torn. `struct.pack_into` on a live word is never right:
it clears before it writes, and lock-free readers see the zeros.

    words 0..63            header; its positions are frozen for all releases, so that one release can raise the
                           floor in the segment of another
    slots                  SLOT_WORDS each: one for each attached process
    claims                 CLAIM_WORDS each, in buckets of CLAIM_WAYS: who is computing which digest
    outbox                 a ring of records: what the other hosts have still to be told; see outbox.py
    table 0, table 1       NODE_WORDS each: hash, changed, at, text; one table is active, `gen & 1` tells which
    arena 0, arena 1       bytes: the texts of the nodes of table 0 and of table 1

Writers are serialised by the segment's lock unless a word says otherwise. Readers of the header and of the tables
take no lock on x86-64 (stores and loads keep the program's order there); see `tables.py` for their steps.
"""

from __future__ import annotations

from typing import NamedTuple

MAGIC = 0x315F4548434F4F5A  # "ZOOCHE_1", little-endian
LAYOUT = 2
WORD = 8
HEADER_WORDS = 64

# Header. Guarded by the write lock, unless marked (*).
H_MAGIC = 0  # written last at creation: a header without it is not there
H_LAYOUT = 1
H_SIZE = 2  # bytes of the whole object
H_INCARNATION = 3  # random; another one is another life of the segment
H_STATE = 4  # LIVE or DEAD (*: anyone who finds the segment orphaned stores DEAD, then moves seq)
H_GEN = 5  # grows by one at each flip of the tables; the low bit names the active one
H_FLOOR = 6  # what a missing node counts as last changed at; never falls
H_SEQ = 7  # the host's order: grows by one with every mutation, stored last
H_INSERTS = 8  # grows by two with every batch of new nodes and every replacement; odd while one is under way
H_TICKETS = 9  # the last number given to a claim
H_NODES = 10  # capacity of each table, in nodes
H_ARENA = 11  # capacity of each arena, in bytes
H_COUNT = 12  # and 13: nodes in table 0 and 1
H_USED = 14  # and 15: bytes used in arena 0 and 1
H_SLOTS = 16  # capacity, in slots
H_CLAIMS = 17  # capacity, in claims; a multiple of CLAIM_WAYS
H_OUTBOX = 18  # capacity of the outbox, in bytes
H_HLC = 20  # the hybrid logical clock's last stamp
H_PRUNED_MS = 21  # up_ms of the last automatic prune
H_INVALIDATIONS = 22  # counter
H_PRUNES = 23  # counter
H_COARSENED = 24  # counter: nodes that gave way because the table was full
H_INHERITED = 25  # counter: claims taken over from a dead or overdue leader
H_NEIGHBOURS = 26  # (*) moved by a newcomer of another layout or C library: look for its segment
H_OUT_HEAD = 27  # position behind the last record of the outbox; positions count bytes and only grow
H_OUT_TAIL = 28  # everything before it is told
H_OUT_CLEAR_TO = 29  # everything before it, as far as it is not told, stands for one message that clears all
H_OUT_LOST = 30  # counter: how often that came about
H_UNSENT_TO = 31  # above the tail: something before it is unknown to the storage that the hosts share
H_BUS_EPOCH = 32  # how far this host has heard, see zoocache/bus: the epoch, 0 if it never has,
H_BUS_N = 33  # the number,
H_BUS_MARK = 34  # and its mark; 0 while it is unknown
H_BUS_WANT = 35  # (*) the highest number that anybody has met; above H_BUS_N: there is something to hear
H_BEAT_MS = 36  # (*) up_ms when this host last was known to have heard all
H_CAUGHT_UP = 37  # (*) 1 from then on; 0 for the first process after all had gone, or when nobody listens any more
H_SENT = 38  # (*) counter: messages sent; like the next three only for people, a step may be lost
H_HEARD = 39  # (*) counter: messages of other hosts heard
H_GAPS = 40  # (*) counter: times that something was missing and read up
H_FLOORED = 41  # (*) counter: times that too much was missing, and everything was overtaken
H_LISTENER_PID = 42  # (*) of the listener, for people; who it is the kernel lock tells
H_LISTENER_MS = 43  # up_ms when somebody last began to start a listener; 0 once it has come
H_OWN_EPOCH = 44  # the latest message of this host that the server has taken, see engine/positions.py: its epoch,
H_OWN_N = 45  # number,
H_OWN_MARK = 46  # and mark; 0 for none since the server was last compared with it
H_REFUSED = 47  # (*) 1 while the server refuses this host's listener: a wrong password, or a right is missing
H_UNTOLD = 48  # (*) 1 from when the server refused what this host had to send, until it takes something again

LIVE = 1
DEAD = 2
NEVER = 2**64 - 1  # floor and `inserts` of a dead segment

# A slot. Its words are written only by the process that holds the kernel lock on the slot's byte.
SLOT_WORDS = 8
S_PID = 0  # 0: left in an orderly way
S_EPOCH = 1  # grows by one with every owner
S_STARTED_MS = 2  # wall clock
S_HITS = 3
S_MISSES = 4
S_FILLS = 5
S_SEEN_MS = 6  # up_ms at which the counters were last written

# A claim. C_STATE is the word that commits; see claims.py.
CLAIM_WORDS = 73
CLAIM_WAYS = 8
C_STATE = 0
C_HIGH = 1  # the digest
C_LOW = 2
C_OWNER = 3  # slot epoch << 16 | slot
C_TICKET = 4
C_SINCE_MS = 5  # up_ms: when the present owner began, or when it failed
C_JOINED = 6  # (*) 1 once somebody waits
C_LENGTH = 7  # bytes of text
C_LEASED = 8  # (*) 1 once the flight holds a lease in the storage that the hosts share
C_TEXT = 9
CLAIM_TEXT_BYTES = (CLAIM_WORDS - C_TEXT) * WORD

# A record of the outbox. Its words and its payload may lie around the ring's end.
RECORD_WORDS = 4
R_SIZE = 0  # bytes of the whole record, a multiple of WORD
R_STATE = 1  # commits
R_OWNER = 2  # as C_OWNER
R_LENGTH = 3  # bytes of the payload behind these words
MIN_OUTBOX = 4096

# A node. N_HIGH is written last when a node is born (0: free), N_CHANGED commits later changes.
NODE_WORDS = 5
N_HIGH = 0
N_LOW = 1
N_CHANGED = 2
N_AT = 3  # hybrid logical clock, for people and for prune
N_TEXT = 4  # offset in the arena << 16 | length

MIN_SIZE = 256 * 1024
DEFAULT_SIZE = 16 * 1024 * 1024
LOAD_PERCENT = 60  # a table with more nodes than this counts as full: probing stays short
TEXT_BYTES_A_NODE = 24  # how the rest of the room is shared between nodes and their texts

# Bytes of the object on which kernel locks stand. They need not exist in the object.
LOCK_ATTACHED = 1
LOCK_LISTENER = 2
LOCK_SLOTS = 4096


class Layout(NamedTuple):
    """Where the parts of a segment of a certain size begin.

    Attributes:
        size: bytes of the whole object.
        slots: how many slots there are; `slots_at` is the index of the first one's first word.
        claims: how many claims; `claims_at` likewise.
        outbox: bytes of the outbox; `outbox_at` is the index of its first word.
        nodes: how many nodes each table has; `tables_at` are the indices of the two tables' first words.
        arena: bytes of each arena; `arenas_at` are the two byte offsets.
    """

    size: int
    slots: int
    slots_at: int
    claims: int
    claims_at: int
    outbox: int
    outbox_at: int
    nodes: int
    tables_at: tuple[int, int]
    arena: int
    arenas_at: tuple[int, int]


def layout_of(size: int) -> Layout:
    """Share a segment of `size` bytes out.

    Args:
        size: bytes, at least MIN_SIZE.

    Returns:
        The same parts for the same size, in every process of this layout version.
    """
    slots = min(2048, size // 8192)
    claims = min(4096, size // 8 // (CLAIM_WORDS * WORD)) // CLAIM_WAYS * CLAIM_WAYS
    slots_at = HEADER_WORDS
    claims_at = slots_at + slots * SLOT_WORDS
    outbox = max(size // 64, MIN_OUTBOX) // WORD * WORD
    outbox_at = claims_at + claims * CLAIM_WORDS
    nodes_at = outbox_at + outbox // WORD
    nodes = (size - nodes_at * WORD) // 2 // (NODE_WORDS * WORD + TEXT_BYTES_A_NODE)
    table_words = nodes * NODE_WORDS
    arenas_at = (nodes_at + 2 * table_words) * WORD
    arena = (size - arenas_at) // 2 // WORD * WORD
    return Layout(
        size, slots, slots_at, claims, claims_at, outbox, outbox_at, nodes, (nodes_at, nodes_at + table_words),
        arena, (arenas_at, arenas_at + arena),
    )  # fmt: skip
