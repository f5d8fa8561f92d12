/* The write lock of zoocache/shm/lock.py, and what a kill, a restart or an exception at any step does to it.
 *
 * One process here is one process there (its threads queue at an RLock before all this). One statement here is one
 * atomic step there: sem_trywait, sem_post, sem_getvalue, flock, a store. A waiter "may lose patience" whenever the
 * semaphore is 0, which stands for every length of sleep and every clock.
 *
 *   spin -a -DN=2 -DKILLS=2 -DEXCS=2 -DRESTART lock.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m1000000
 *
 * Checked: no two processes are inside at once, nobody works on torn data, the count of tokens stays bounded.
 *
 *   -DN=2 -DKILLS=2 -DEXCS=2 -DRESTART     2,885,043 states   0 errors
 *   -DN=3 -DKILLS=2 -DRESTART              3,926,495 states   0 errors
 *   -DN=2 -DKILLS=1 -DNOFLOCK              must fail: the semaphore alone, posted by whoever lost patience
 */
#ifndef N
#define N 2
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef EXCS
#define EXCS 0
#endif
#define NOBODY 0
#define ME _pid                     /* 1..N; init is 0 */

byte sem = 1;                       /* the gate */
byte lk = NOBODY;                   /* the flock: the kernel clears it at death */
bool alive[N+1];
bool kill9[N+1];                    /* SIGKILL delivered: not one more step */
bool exc[N+1];                      /* an exception from a signal handler is due */
bit  inside[N+1];                   /* witnesses */
byte many = 0;
bit  d1 = 0, d2 = 0, dirty = 0;     /* the data: equal whenever no mutation is under way */

inline post() { d_step { assert(sem < 2*N+1); sem++ } }
inline gone() { d_step { if :: inside[ME] -> inside[ME] = 0; many-- :: else fi } }
inline unlock() { d_step { if :: lk == ME -> lk = NOBODY :: else fi } }

inline mutate() {
      d_step { inside[ME] = 1; many++ };
      assert(many == 1);
      if :: dirty -> d1 = d2; dirty = 0 :: else fi;    /* whoever comes next goes on; here: one commit by two stores */
      assert(d1 == d2);
      dirty = 1; d1 = 1 - d1; d2 = 1 - d2; dirty = 0;
      d_step { inside[ME] = 0; many-- }
}

proctype P() {
  bit w; bit tok;
start:
  atomic { alive[ME] = true; w = 0; tok = 0 };
  { skip;
again:
    { skip;
enter:w = 0;
wait: tok = 0;
      if :: atomic { sem > 0 -> sem--; tok = 1 }
         :: sem == 0
      fi;
      if :: tok || w ->
#ifdef NOFLOCK
            if :: tok -> skip :: else -> post(); goto enter fi;
#else
            if :: atomic { lk == NOBODY -> lk = ME }
               :: atomic { lk == ME -> skip }          /* the same description: taken again without harm */
               :: atomic { lk != NOBODY && lk != ME -> goto enter } fi
#endif
         :: else -> w = 1; goto wait
      fi;
drain:if :: atomic { sem > 0 -> sem--; goto drain } :: sem == 0 fi;
      mutate()
    } unless { exc[ME] -> exc[ME] = false; gone() };
    { unlock() } unless { exc[ME] -> exc[ME] = false };           /* the inner finally */
    { unlock(); if :: sem == 0 -> post() :: sem > 0 fi            /* the outer one; value and post are two steps */
    } unless { exc[ME] -> exc[ME] = false; unlock() };
    goto again
  } unless { kill9[ME] -> kill9[ME] = false };
#ifdef RESTART
  goto start
#endif
}

proctype World() {
  byte k = 0, x = 0, i;
  do
  :: k < KILLS -> atomic { select(i : 1 .. N);
        if :: alive[i] && !kill9[i] -> k++; kill9[i] = true; alive[i] = false;
              if :: lk == i -> lk = NOBODY :: else fi;
              if :: inside[i] -> inside[i] = 0; many-- :: else fi
           :: else fi }
  :: x < EXCS -> atomic { select(i : 1 .. N); if :: alive[i] && !exc[i] -> x++; exc[i] = true :: else fi }
  :: break
  od
}
init { atomic { byte j = 1; do :: j <= N -> run P(); j++ :: else -> break od; run World() } }
