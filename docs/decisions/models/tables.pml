/* The trie of prefixes and its readers, as zoocache/shm/tables.py, trie.py and engine/live.py have them (spin 6.5).
 *
 * One store to a word of the segment, and one load by a reader, is one step. Writers are serialised by the lock (see
 * lock.pml), so one process W stands for all of them: it may be killed before any of its stores, and the next one goes
 * on without any repair. The reader R takes no lock; it keeps one live entry, which depends on the first TAGS - 1 tags;
 * the last tag is somebody else's. All tags hash to the same slot, so where a node stands depends on what came before.
 *
 * Property: a read never brings a value that is TOLD when the read starts. The age of a value is FRESH when a fill
 * reads it from the data behind the cache; that data changes before an invalidation is called (BY_W, or BY_REMOVER, is added
 * to the ages of all values), and once the invalidation has returned, what it was about is TOLD.
 *
 *   -DTAGS=n    3 or 2 (default 2)
 *   -DOPS=n     mutations altogether (default 2)      -DKILLS=n   kills altogether (default 1)
 *   -DRETIRE    the segment is retired once, without the lock, at any moment
 *   -DFOLLOW    a second reader follows the fills of the first and is handed what they bring
 *   -DSTORE     a store stands behind the live entry, with an order of its own
 *
 * What was explored stands in decisions 0003 and 0004. Faults, each of which must be found:
 *   -DM_SEQFIRST       seq is stored before changed
 *   -DM_BEFORE         inserts moves once, before a node is published
 *   -DM_AFTER          inserts moves once, after it
 *   -DM_STILL          a replacement does not move inserts
 *   -DM_KEEPODD        what was seen while inserts was odd is kept
 *   -DM_FLOORLATE      the floor is stored after the flip
 *   -DM_NOFLOOR        a replacement raises no floor
 *   -DM_CLEARLOW       clear raises the floor to seq, not above it
 *   -DM_FLOORFIRST     a look reads the floor first
 *   -DM_ONEGEN         a look reads gen once
 *   -DM_INSFIRST       a re-check reads inserts first
 *   -DM_SEQLATE        a reader notes seq after its check
 *   -DM_SINCELATE      a fill notes seq after it has read the data
 *   -DM_KEEPALL        a fill is kept without a look
 *   -DM_RETIRESEQ      retire moves seq first                                        (with RETIRE)
 *   -DM_RETIRESTATE    retire leaves the state alone                                 (with RETIRE)
 *   -DM_HOLDDEAD      a fill is kept without a look at the state                      (with RETIRE)
 *   -DM_GULLIBLE       a follower takes whatever it is handed                        (with FOLLOW)
 *   -DM_SEGMENTFIRST   an invalidation goes to the segment first, to the store second (with STORE)
 *   -DM_STAMPLATE      a fill takes its stamp after it has read the data              (with STORE)
 */
#ifndef TAGS
#define TAGS 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define S TAGS                          /* slots a table */
#define NEVER 255
#define MISSING 254
#define UNSEEN 253
#define NONE 252

byte h[2*S], v[2*S];                    /* N_HIGH: tag + 1, or 0; N_CHANGED */
byte gen = 0, flr = 1, seq = 3, inserts = 2;
bit  dead = 0;
byte ops = 0, kills = 0;

#define BY_W 1
#define BY_REMOVER 2
#define TOLD 4
#define FRESH 8                         /* 0: there is no value */
byte e_age = 0, f_age = 0;              /* of the value in the entry, and of the one that a fill under way has read */
#ifdef STORE
byte n = 0, number = 0;                 /* the store's counter; the highest number on the paths of the entry */
byte kept_n = 0, kept_age = 0;          /* what is kept: its stamp, the age of its value */
bit  there = 0;
#endif
#ifdef FOLLOW
bit  flight = 0;                        /* whether one is under way */
byte following = 0, brought = 0;        /* 0: F follows none, 1: one under way, 2: one that has ended; its since */
bit  f_bad = 0;                         /* what F follows had read a value that was TOLD when F began */
#endif

#define OURS(tag) ((tag) < TAGS - 1)
#define HIGHER(x, y) ((x) > (y) -> (x) : (y))
#define ACTIVE ((gen & 1) * S)
#define SCRATCH (((gen & 1) ^ 1) * S)

#define CHANGED(age, by) age = (age == 0 || age == TOLD -> age : age | by)
#define TELL(age, by) age = (age & by -> TOLD : age)
inline data_changes(by) {
  CHANGED(e_age, by); CHANGED(f_age, by);
#ifdef STORE
  CHANGED(kept_age, by);
#endif
}
inline has_returned(by) {
  TELL(e_age, by); TELL(f_age, by);
#ifdef STORE
  TELL(kept_age, by);
#endif
}

/* ------------------------------------------------------------------ writers
 * What W loads nobody else stores (but retire), so a load and the store after it may be one step.                    */

#ifdef RETIRE
#define LOAD(x, word) x = word
#define LOADED(x, word) x
#else
#define LOAD(x, word) skip
#define LOADED(x, word) word
#endif

inline may_die() { atomic { kills < KILLS -> kills++; goto again } }

inline begin_inserts() {
  if
#ifdef M_BEFORE
  :: inserts = inserts + 2
#else
#ifdef M_AFTER
  :: skip
#else
  :: d_step { if :: !(inserts & 1) -> inserts = inserts + 1 :: else fi }
#endif
#endif
  :: may_die()
  fi
}
inline end_inserts() {                  /* a load and a store: retire may come in between */
  LOAD(x, inserts);
  if
#ifdef M_BEFORE
  :: skip
#else
#ifdef M_AFTER
  :: inserts = LOADED(x, inserts) + 2
#else
  :: inserts = (LOADED(x, inserts) == NEVER -> NEVER : LOADED(x, inserts) + 1)
#endif
#endif
  :: may_die()
  fi
}

inline find_for_writing(tag, at) {
  at = ACTIVE; i = 0;
  do :: i < S && h[at] != 0 && h[at] != tag + 1 -> at++; i++
     :: else -> break od;
  if :: i == S -> at = MISSING
     :: else -> if :: h[at] == 0 -> at = MISSING :: else fi
  fi;
  i = 0
}

inline publish(tag) {
  if :: d_step { c = ACTIVE; do :: h[c] != 0 -> c++ :: else -> break od; v[c] = t } :: may_die() fi;
  if :: d_step { h[c] = tag + 1; c = 0 } :: may_die() fi
}

inline choose(least) {                  /* which nodes give way, and the highest changed of them */
  atomic {
    if :: least == 0 -> gone = 0 :: h[ACTIVE] != 0 -> gone = 1
       :: h[ACTIVE + 1] != 0 -> gone = 2 :: h[ACTIVE + 1] != 0 -> gone = 3
#if TAGS == 3
       :: h[ACTIVE + 2] != 0 -> gone = 4 :: h[ACTIVE + 2] != 0 -> gone = 5
       :: h[ACTIVE + 2] != 0 -> gone = 6 :: h[ACTIVE + 2] != 0 -> gone = 7
#endif
       :: h[ACTIVE] == 0 -> gone = 0
    fi;
    d_step {
      i = 0;
      do :: i < S -> if :: h[ACTIVE + i] != 0 && (gone & (1 << i)) -> lost = HIGHER(lost, v[ACTIVE + i]) :: else fi; i++
         :: else -> break od
    };
    spoil_scratch()
  }
}

inline spoil_scratch() {                /* it is written in no order that anybody relies on: here, zeros come first */
  i = 0; do :: i < S -> v[SCRATCH + i] = 0; i++ :: else -> break od; i = 0
}

inline replace(low) {                   /* the nodes in `gone` are dropped; low: the floor is at least this */
  if :: d_step {
          i = 0; c = SCRATCH;
          do :: i < S -> if :: h[ACTIVE + i] != 0 && !(gone & (1 << i)) ->
                               h[c] = h[ACTIVE + i]; v[c] = v[ACTIVE + i]; c++
                            :: else fi; i++
             :: else -> break od;
          do :: c < SCRATCH + S -> h[c] = 0; v[c] = 0; c++ :: else -> break od;
          i = 0; c = 0; gone = 0 }
     :: may_die() fi;
#ifndef M_STILL
  begin_inserts();
#endif
#ifdef M_FLOORLATE
  if :: gen = gen + 1 :: may_die() fi;
#endif
#ifndef M_NOFLOOR
  LOAD(x, flr);
  if :: d_step { flr = HIGHER(LOADED(x, flr), low); lost = 0 } :: may_die() fi;
#endif
#ifndef M_FLOORLATE
  if :: gen = gen + 1 :: may_die() fi;
#endif
#ifndef M_STILL
  end_inserts()
#endif
}

inline replace_all(low) { d_step { gone = 255; spoil_scratch() }; replace(low) }

inline retire() {                       /* needs no lock: it may happen while W is in the middle of its stores */
#ifdef M_RETIRESEQ
  y = seq; seq = y + 1;
#endif
#ifndef M_RETIRESTATE
  dead = 1;
#endif
  flr = NEVER;
  inserts = NEVER;
#ifndef M_RETIRESEQ
  y = seq; seq = y + 1;
#endif
  y = 0
}

inline tell_store() {
#ifdef STORE
  if :: d_step { n++; if :: ours -> number = n :: else fi } :: may_die() fi
#else
  skip
#endif
}

inline call(is_ours) { ours = is_ours; if :: ours -> data_changes(BY_W) :: else fi }
inline returned() { if :: ours -> has_returned(BY_W) :: else fi; ours = 0; t = 0; a = 0; b = 0 }

inline begin(one, two) {
  t = seq + 1;
  find_for_writing(one, a);
  if :: two != NONE -> find_for_writing(two, b) :: else -> b = NONE fi
}

inline invalidate(one, two) {           /* two tags, or one and NONE, under one number */
#ifdef ONE_STEP
  d_step { call(OURS(one) || OURS(two)); begin(one, two) };
#else
  d_step { call(OURS(one) || OURS(two)) };
#ifndef M_SEGMENTFIRST
  tell_store();
#endif
#endif
  if
  :: dead -> retire(); d_step { returned() }                /* insist_on_currency; then anew, where R is not */
  :: else ->
#ifndef ONE_STEP
     d_step { begin(one, two) };
#endif
#ifdef M_SEQFIRST
     if :: seq = t :: may_die() fi;
#endif
     if :: a != MISSING -> if :: v[a] = t :: may_die() fi
        :: else fi;
     if :: b < MISSING && b != NONE -> if :: v[b] = t :: may_die() fi
        :: else fi;
     if
     :: a == MISSING || b == MISSING ->
        if :: choose(0); replace(lost)                       /* no room: some give way */
           :: true fi;
        begin_inserts();
        if :: a == MISSING -> publish(one) :: else fi;
        if :: b == MISSING -> publish(two) :: else fi;
        end_inserts();
        if :: replace_all(t)                                 /* no slot was near: all give way */
           :: true fi
     :: else
     fi;
#ifdef M_SEQFIRST
     d_step { returned() }
#else
#ifdef M_SEGMENTFIRST
     seq = t; tell_store(); d_step { returned() }
#else
     if :: d_step { seq = t; returned() } :: may_die() fi   /* one step, which promises it a little earlier */
#endif
#endif
  fi
}

inline prune() {
  if :: dead :: !dead && h[ACTIVE] == 0 :: !dead && h[ACTIVE] != 0 -> choose(1); replace(lost) fi
}

inline clear() {
  d_step { call(1) };
  tell_store();
  if
  :: dead -> retire(); d_step { returned() }
  :: else ->
     t = seq + 1;
#ifdef M_CLEARLOW
     replace_all(t - 1);
#else
     replace_all(t);
#endif
     if :: d_step { seq = t; returned() } :: may_die() fi
  fi
}

#ifndef RETIRE
#ifndef STORE
#define ONE_STEP                        /* nothing that W loads can change between its call and its first store */
#endif
#endif

proctype W() {
  byte a, b, c, i, t, x, y, lost, gone; bit ours;
again: skip;
  d_step { a = 0; b = 0; c = 0; i = 0; t = 0; x = 0; y = 0; lost = 0; gone = 0; ours = 0 };
  if
  :: ops < OPS ->
     ops++;
     if
     :: invalidate(0, NONE)
#if TAGS == 3
     :: invalidate(1, NONE)
#endif
     :: invalidate(TAGS - 1, NONE)
     :: invalidate(TAGS - 1, 0)
     :: prune()
     :: clear()
     fi;
     goto again
  :: ops == OPS
  fi
}

#ifdef RETIRE
proctype Remover() {                    /* the name was removed, and the data changed and told to a new segment */
  byte y;
  d_step { data_changes(BY_REMOVER) };
  retire();
  d_step { has_returned(BY_REMOVER) };
  d_step { data_changes(BY_REMOVER) };                       /* and once more, told to the new segment alone */
  d_step { has_returned(BY_REMOVER) }
}
#endif

/* ------------------------------------------------------------------ readers */

inline probe(tag, at) {                 /* Tables.find */
  i = 0;
  do
  :: d_step { i < S ->
       at = (g & 1) * S + i;
       if :: h[at] == tag + 1 -> i = S
          :: h[at] == 0 -> at = MISSING; i = S
          :: else -> i++; if :: i == S -> at = MISSING :: else fi
       fi }
  :: else -> break
  od;
  skip                                  /* spin lets no break lead into a d_step */
}

inline look(since) {                    /* Trie._look; leaves ok, i0, c0, c1 */
#ifdef M_FLOORFIRST
  f0 = flr;
#endif
  i0 = inserts;
  g = gen;
  probe(0, c0);
#if TAGS == 3
  probe(1, c1);
#endif
  d_step { ok = 1; if :: c0 != MISSING -> ok = (v[c0] <= since) :: else fi };
#if TAGS == 3
  d_step { if :: c1 != MISSING -> ok = ok && (v[c1] <= since) :: else fi };
#endif
#ifndef M_ONEGEN
  ok = ok && gen == g;                  /* another gen: it tries again, and gives up in the end, as here at once */
#endif
#ifdef M_FLOORFIRST
  d_step { ok = ok && f0 <= since; f0 = 0 };
#else
  ok = ok && flr <= since;
#endif
  d_step {
    ok = ok && !dead;
#ifndef M_KEEPODD
    if :: i0 & 1 -> i0 = UNSEEN :: else fi;
#endif
    i = 0; g = 0
  }
}

inline forget_sight() { s = 0; ok = 0; i0 = 0; c0 = MISSING; c1 = MISSING }
inline served() { assert(!bad); bad = 0; forget_sight() }

proctype R(bit have; byte e_since, e_seq, e_ins, e_c0, e_c1) {   /* e_: of the entry, if it has one */
  byte s, i, g, i0, c0 = MISSING, c1 = MISSING; bit ok, bad;
  byte since;
#ifdef M_FLOORFIRST
  byte f0;
#endif
#ifdef STORE
  byte stamp; bit kept_bad;
#endif
again:
  if
  :: d_step { have && seq == e_seq -> assert(e_age != TOLD) }; goto again            /* the wrapper's fast path */
  :: d_step { have && seq != e_seq -> bad = (e_age == TOLD) }
  :: d_step { !have -> bad = 0 }; goto miss
  fi;
#ifdef STORE
  kept_bad = (kept_age == TOLD);                             /* a little late, which can only make it fail more */
#endif
#ifndef M_SEQLATE
  s = seq;                                                   /* _revalidate_freely */
#endif
#ifdef M_INSFIRST
  i0 = inserts;
#endif
  if :: e_c0 != MISSING -> if :: v[e_c0] > e_since -> goto drop :: else fi
     :: else fi;
#if TAGS == 3
  if :: e_c1 != MISSING -> if :: v[e_c1] > e_since -> goto drop :: else fi
     :: else fi;
#endif
#ifndef M_INSFIRST
  i0 = inserts;
#endif
#ifdef M_SEQLATE
  s = seq;
#endif
  if :: d_step { i0 == e_ins -> e_seq = s; served() }; goto again
     :: else fi;
#ifndef M_SEQLATE
  s = seq;                                                   /* _look_again */
#endif
  look(e_since);
#ifdef M_SEQLATE
  s = seq;
#endif
  if :: d_step { ok -> e_ins = i0; e_c0 = c0; e_c1 = c1; e_seq = s; served() }; goto again
     :: else fi;
drop: skip;
  d_step { have = 0; e_since = 0; e_age = 0; e_seq = 0; e_ins = 0; e_c0 = MISSING; e_c1 = MISSING; bad = 0;
           forget_sight() };
miss: skip;
#ifdef STORE
  since = seq;                                               /* keeping.load */
  if
  :: d_step { there -> stamp = kept_n; f_age = kept_age };
     if :: d_step { number <= stamp -> stamp = 0; assert(!kept_bad); kept_bad = 0 }; goto hold
        :: else fi
  :: !there
  fi;
  d_step { stamp = 0; f_age = 0; since = 0; kept_bad = 0 };
#endif
#ifndef M_SINCELATE
  since = seq;                                               /* keeping.begin */
#endif
#ifdef STORE
#ifndef M_STAMPLATE
  stamp = n;
#endif
#endif
#ifdef FOLLOW
  d_step { flight = 1; if :: following == 0 -> f_bad = 0 :: else fi };
#endif
  f_age = FRESH;                                             /* the function runs, and reads the data */
#ifdef M_SINCELATE
  since = seq;
#endif
#ifdef STORE
#ifdef M_STAMPLATE
  stamp = n;
#endif
  d_step { if :: number <= stamp -> there = 1; kept_n = stamp; kept_age = f_age :: else fi; stamp = 0 };
#endif
hold:
  s = seq;
  if
#ifdef M_HOLDDEAD
  :: d_step { s == since -> i0 = UNSEEN; ok = 1 }
#else
  :: d_step { s == since -> i0 = UNSEEN; ok = !dead }
#endif
#ifdef M_KEEPALL
  :: d_step { s != since -> i0 = UNSEEN; ok = 1 }
#else
  :: s != since -> look(since)
#endif
  fi;
  d_step {
    if :: ok -> have = 1; e_since = since; e_age = f_age; e_seq = s; e_ins = i0; e_c0 = c0; e_c1 = c1
       :: else fi;
#ifdef FOLLOW
    flight = 0;
    if :: following == 1 -> following = 2; brought = since :: else fi;
#endif
    since = 0; f_age = 0; forget_sight()
  };
  goto again
}

#ifdef FOLLOW
proctype F() {                          /* engine/call.py: steps, _may_have */
  byte joined, i, g, s, i0, c0 = MISSING, c1 = MISSING; bit ok;
#ifdef M_FLOORFIRST
  byte f0;
#endif
again: skip;
  d_step { joined = seq; f_bad = (flight && f_age == TOLD) };
  if :: d_step { flight -> following = 1 }
     :: d_step { !flight -> joined = 0; f_bad = 0 }; goto again    /* nobody to follow: it would lead, as R does */
  fi;
  following == 2;
#ifdef M_GULLIBLE
  assert(!f_bad);
#else
  if
  :: brought == joined -> assert(!f_bad)
  :: brought != joined ->
     if :: seq == brought -> assert(!f_bad)
        :: else -> look(brought); assert(!ok || !f_bad)
     fi
  fi;
#endif
  d_step { following = 0; brought = 0; joined = 0; f_bad = 0; forget_sight() };
  goto again
}
#endif

/* The beginning: a history lies behind. Each tag has a node or none; R has no entry, or one that was filled at 1 and
 * last found valid at 2 or 3, with a sight from then or without. */
inline node(tag, at) {
  if :: d_step { h[c] = tag + 1; v[c] = (OURS(tag) -> 1 : 3); at = c; c++ } :: at = MISSING fi
}

init {
  byte c = 0, c0 = MISSING, c1 = MISSING, foreign, checked = 2;
  atomic {
    node(0, c0);
#if TAGS == 3
    node(1, c1);
#endif
    node(TAGS - 1, foreign);
    if :: checked = 3 :: true fi;
    run W();
    if :: run R(0, 0, 0, 0, MISSING, MISSING)
       :: e_age = FRESH; run R(1, 1, checked, UNSEEN, MISSING, MISSING)
       :: e_age = FRESH; run R(1, 1, checked, inserts, c0, c1)
    fi;
#ifdef RETIRE
    run Remover();
#endif
#ifdef FOLLOW
    run F();
#endif
  }
}
