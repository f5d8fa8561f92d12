/* The write lock of a host, as zoocache/shm/lock.py has it: a semaphore as the gate, a flock as the truth (spin 6.5).
 *
 * Processes 1..N, with THREADS threads each. Any process may be killed before any step of any of its threads, and may
 * come back (RESTART); a signal handler may raise between any two steps of a thread (EXCS); a process may fork a child
 * at any moment (FORKS). sem_trywait, sem_post, sem_getvalue, flock and the steps on `_threads` are one step each; so
 * is what the kernel does at a death. A time-out may come whenever there is something to wait for.
 *
 * Safety     one thread at a time is inside; tokens stay bounded; whoever has left `run` holds nothing
 * Liveness   -DNP: whatever happens, sooner or later somebody is inside again (weak fairness, kills bounded)
 *
 * What was explored stands in decision 0002, for both; all runs were exhaustive.
 *
 *   -DN=n -DTHREADS=n -DKILLS=n -DRESTART -DEXCS=n -DFORKS     defaults: 2, 1, 1, no, 0, no
 *
 * Faults, each of which must be found:
 *   -DM_SEMONLY     20 ms without a token count as having got in: no flock
 *   -DM_POSTDEAD    20 ms without a token: the semaphore is posted for the dead holder; no flock
 *   -DM_NOPATIENCE  without a token, nobody asks the flock: the token may have died with its holder     (liveness)
 *   -DM_DRAINALL    whoever is inside drains all tokens there are, however many come meanwhile      (liveness)
 *   -DM_ONEFINALLY  the unlock stands in one finally only                                          (with EXCS=1)
 *   -DM_STRANGER    a thread that never got in unlocks all the same                             (with THREADS=2)
 *   -DM_NOTHREADS   nothing parts the threads of a process                                      (with THREADS=2)
 *   -DM_INHERIT     a child goes on with its parent's description                                  (with FORKS)
 *   -DM_KEEPCOPY    a child keeps its parent's description open                          (with FORKS, liveness)
 */
#ifndef N
#define N 2
#endif
#ifndef THREADS
#define THREADS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef EXCS
#define EXCS 0
#endif
#ifdef FORKS
#define PROCS (N+1)                     /* the last is the child; it is born by a fork */
#else
#define PROCS N
#endif
#define TIDS (PROCS * THREADS)
#define NOBODY 0
#define ME (_pid)                       /* 1..TIDS; init is 0 */
#define PROC(tid) (((tid) - 1) / THREADS + 1)
#define MAXSEM PROCS

byte sem = 1;                           /* the gate */
byte lk = NOBODY;                       /* the flock: which description has it; the kernel clears it at the last close */
byte threads[PROCS + 1];                /* the RLock of each process: which thread owns it */
byte desc[PROCS + 1];                   /* which description a process locks with; it is named after who opened it */
byte copies[PROCS + 1];                 /* how many processes have it open */
bit  alive[PROCS + 1];
bit  kill9[TIDS + 1];                   /* SIGKILL is there: not one more step */
bit  exc[TIDS + 1];                     /* a signal handler is about to raise */
bit  inside[TIDS + 1];                  /* witness only */
byte incs = 0;
byte excs = 0;

inline step_out() { d_step { if :: inside[ME] -> inside[ME] = 0; incs-- :: else fi } }
inline unlock() { d_step { if :: lk == desc[PROC(ME)] -> lk = NOBODY :: else fi } }
inline give_back_thread() { d_step { if :: threads[PROC(ME)] == ME -> threads[PROC(ME)] = NOBODY :: else fi } }

inline leave() {                        /* Lock._leave */
#ifdef M_STRANGER
  unlock();
#endif
  if
#ifdef M_NOTHREADS
  :: true ->
#else
  :: threads[PROC(ME)] == ME ->
#endif
     unlock();
     if :: sem == 0 -> d_step { assert(sem < MAXSEM); sem++ }
        :: sem > 0 fi;
     give_back_thread()
  :: else
  fi
}

proctype T() {
  bit patient, tok; byte drained;
born:
#ifdef FORKS
  { skip;
end_unborn:
    alive[PROC(ME)];
    /* os.register_at_fork: a child lets go of the inherited description first, then opens its own */
    if
    :: PROC(ME) == PROCS && desc[PROCS] != PROCS ->
#ifdef M_INHERIT
       skip
#else
#ifdef M_KEEPCOPY
       d_step { desc[PROCS] = PROCS; copies[PROCS] = 1 }
#else
       d_step {
         copies[desc[PROCS]]--;
         if :: copies[desc[PROCS]] == 0 && lk == desc[PROCS] -> lk = NOBODY :: else fi;
         desc[PROCS] = PROCS; copies[PROCS] = 1
       }
#endif
#endif
    :: else
    fi;
#else
  { skip;
#endif
again:
    { skip;
      /* Lock._enter */
#ifndef M_NOTHREADS
      if :: atomic { threads[PROC(ME)] == NOBODY -> threads[PROC(ME)] = ME }
#if THREADS > 1
         :: threads[PROC(ME)] != NOBODY -> goto out                                    /* Busy */
#endif
      fi;
#endif
wait:
      if :: atomic { sem > 0 -> sem--; tok = 1 }
         :: sem == 0
      fi;
      if
#ifdef M_NOPATIENCE
      :: tok ->
#else
      :: tok || patient ->
#endif
         tok = 0; patient = 0;
#ifdef M_SEMONLY
         goto held
#endif
#ifdef M_POSTDEAD
         goto held
#endif
         if :: atomic { lk == NOBODY -> lk = desc[PROC(ME)] }
            :: lk == desc[PROC(ME)]                          /* the same description: it has it already */
            :: lk != NOBODY && lk != desc[PROC(ME)] -> if :: goto wait :: goto out fi  /* again, or Busy */
         fi
      :: else ->
#ifdef M_POSTDEAD
         d_step { assert(sem < MAXSEM); sem++ };
#endif
         patient = 1; goto wait
      fi;
held:
#ifdef M_DRAINALL
      if :: atomic { sem > 0 -> sem--; goto held }
#else
      if :: atomic { sem > 0 && drained < 2 -> sem--; drained++; goto held }           /* at most 4 in the code */
         :: sem > 0 && drained == 2
#endif
         :: sem == 0
      fi;
      drained = 0;
      d_step { inside[ME] = 1; incs++ };
progress_inside:
      assert(incs == 1);
      step_out();
out:  skip
    } unless { exc[ME] -> d_step { exc[ME] = 0; tok = 0; patient = 0; drained = 0 }; step_out() };
    { leave() } unless { exc[ME] -> exc[ME] = 0 };           /* the inner finally */
#ifndef M_ONEFINALLY
    { leave() } unless { exc[ME] -> exc[ME] = 0 };           /* the outer one */
#endif
    assert(threads[PROC(ME)] != ME);
    goto again
  } unless { kill9[ME] -> d_step { kill9[ME] = 0; tok = 0; patient = 0; drained = 0 } };
#ifdef RESTART
end_dead:                               /* while a child still has its description open, another must not have its name */
  if :: atomic { copies[PROC(ME)] == 0 || desc[PROC(ME)] == PROC(ME) && alive[PROC(ME)] ->
                 if :: !alive[PROC(ME)] -> alive[PROC(ME)] = 1; desc[PROC(ME)] = PROC(ME); copies[PROC(ME)] = 1
                    :: else fi };
     goto born
  fi
#endif
}

inline die(p) {                         /* what the kernel does in one step */
  alive[p] = 0; threads[p] = NOBODY;
  copies[desc[p]]--;
  if :: copies[desc[p]] == 0 && lk == desc[p] -> lk = NOBODY :: else fi;
  j = (p - 1) * THREADS + 1;
  do :: j <= p * THREADS ->
        kill9[j] = 1; exc[j] = 0;
        if :: inside[j] -> inside[j] = 0; incs-- :: else fi;
        j++
     :: else -> break od;
  j = 0
}

proctype World() {
  byte k = 0, j = 0, i; bit forked = 0;
  do
  :: k < KILLS -> atomic { select(i : 1 .. PROCS);
       if :: alive[i] && !kill9[(i - 1) * THREADS + 1] -> k++; die(i) :: else fi }
#if EXCS > 0
  :: excs < EXCS -> atomic { select(i : 1 .. TIDS);
       if :: alive[PROC(i)] && !exc[i] && !kill9[i] -> excs++; exc[i] = 1 :: else fi }
#endif
#ifdef FORKS
  :: !forked -> atomic { select(i : 1 .. N);
       if :: alive[i] -> forked = 1; alive[PROCS] = 1; desc[PROCS] = desc[i]; copies[desc[i]]++ :: else fi }
#endif
  :: break
  od
}

init {
  atomic {
    byte j = 1;
    do :: j <= N -> alive[j] = 1; desc[j] = j; copies[j] = 1; j++ :: else -> break od;
    j = 1;
    do :: j <= TIDS -> run T(); j++ :: else -> break od;
    run World()
  }
}
