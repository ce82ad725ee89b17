/* The protocol of gil/gil.h: queue, grant, drop by a plain store, bias and its revocation, exit.
 *
 * Memory is x86's: each thread has one store that the others may not see yet (`pending`), which becomes visible at any
 * time, at its next locked instruction, and at anybody's AsymmetricFence::Heavy(). Only the stores that the shipping code
 * makes without a locked instruction after them are buffered: those of the fast paths.
 *
 * Time: the interval of the waiter that keeps time may be over whenever a holder is at work, and never while nobody is, or
 * in the scenarios of exit after the order. So a wake-up that is lost shows as a deadlock and is not repaired by the timer.
 *
 * Not here: spinning (a spinner is a waiter that happens to look), the interactive policy, hooks.
 *
 *   spin -a -DWORKERS gil.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * Scenarios (one of them):
 *   WORKERS   N threads take and drop, TAKES times each; each may earn the bias
 *   BUSY      thread 0 holds until it is asked, the others come
 *   EXIT      thread 0 makes thread 1 leave, and may wait for it with the GIL in its hands
 *   EXIT_FROM_OUTSIDE   the same without the GIL
 *   FINAL     thread 0 drops for the last time; who holds the GIL after it frees what is thread 0's
 *   SWITCH    the GIL-disabled build (GRANTS=0): thread 0 switches the GIL off under the others, and perhaps on again
 * With N=3 there is one more worker. GRANTS says how often the bias is granted at most.
 *
 * Mistakes, each of which must be found; names as in the sources (PYRT_MUTANT), 96387 and 36475 are CPython's:
 *   BUG_PARK_WITHOUT_FENCE      BUG_REVOKE_WITHOUT_FENCE    BUG_DROP_IGNORES_WAITERS    BUG_CONVERSION_OVERLOOKED
 *   BUG_LEAVER_SWALLOWS_WAKE    BUG_96387                   BUG_EXIT_DOES_NOT_WAKE      BUG_EXIT_KEEPS_BIAS
 *   BUG_HANDOFF_FREES_THE_WORD  BUG_YIELD_DOES_NOT_QUEUE    BUG_36475
 *   BUG_104341  a final drop clears its request after it has let go
 *   BUG_GI_33   switching off wakes one waiter only (the first correction of gh-118727)
 *   BUG_118727  whoever attached while the GIL was off drops it because it is on meanwhile
 *   BUG_BIAS_FOR_THE_EXITING (this model found it in pyrt)
 * And FULL_FENCES, which is no mistake: no membarrier, so that Light() is a fence and Heavy() flushes its caller only. */

#ifndef N
#define N 2
#endif
#ifndef TAKES
#define TAKES 2
#endif
#ifndef GRANTS
#define GRANTS 2
#endif
#define NOBODY 255

/* word, hold */
#define FREE 0
#define HELD 1
#define BIASED 2
#define NONE 0
#define PLAIN 1

/* signal */
#define GRANTED 1
#define LOOK_AGAIN 2
#define DISABLED 3

/* result of Take and Yield */
#define TAKEN 1
#define MUST_EXIT 2

byte word = FREE;
byte bias = NOBODY;
byte waiting;
byte last_holder = NOBODY;
byte hold[N];
byte signal[N];
bool request[N];   /* the drop request bit of each thread's word */
bool exiting[N];
bool converted[N];

bool queue_lock;
byte queue[N];
byte queued;
bool owners_see_waiters;
bool asked[N];     /* GilWaiter::requested */
bool overdue[N];

/* The store that a thread has made and the others may not see: of `word`, or of its own `hold`. */
#define EMPTY 0
#define WORD_FREE 1
#define HOLD_BIASED 2
#define HOLD_NONE 3
byte pending[N];

/* What is proven is said with these. */
byte inside;        /* threads that believe that they hold the GIL */
byte grants;        /* of the bias, so that there is an end */
bool closing;       /* thread 1 was told to exit */
bool left;          /* thread 1 has */
bool freed;         /* what was thread 0's */
bool on = true;            /* the GIL-disabled build: the GIL is */
byte asker[N] = NOBODY;

#define MyHold(t) (pending[t] == HOLD_BIASED -> BIASED : (pending[t] == HOLD_NONE -> NONE : hold[t]))

inline Publish(t) {
  if
  :: pending[t] == WORD_FREE -> word = FREE
  :: pending[t] == HOLD_BIASED -> hold[t] = BIASED
  :: pending[t] == HOLD_NONE -> hold[t] = NONE
  :: else
  fi;
  pending[t] = EMPTY
}

inline Store(t, what) { atomic { Publish(t); pending[t] = what } }

inline Light(t) {
#ifdef FULL_FENCES
  atomic { Publish(t) }
#else
  skip
#endif
}

inline Heavy(t) {
#ifdef FULL_FENCES
  atomic { Publish(t) }
#else
  atomic {
    other = 0;
    do
    :: other < N -> Publish(other); other++
    :: else -> break
    od
  }
#endif
}

inline Lock(t) { atomic { !queue_lock -> queue_lock = true; Publish(t) } }
inline Unlock(t) { atomic { Publish(t); queue_lock = false } }

inline TryAcquireWord(t) {
  atomic {
    Publish(t);
    if
    :: word == FREE -> word = HELD; ok = true
    :: else -> ok = false
    fi
  }
}

/* --- Under the queue lock. What only its owner touches, or nobody else can tell apart, is one step. */

inline Enqueue(t) {
  d_step {
    if
    :: queued == 0 -> owners_see_waiters = false
    :: else
    fi;
    queue[queued] = t;
    queued++;
    signal[t] = NONE;
    asked[t] = false;
    overdue[t] = false;
    waiting = queued
  }
}

/* Inside d_step. */
inline Dequeue(t) {
  at = 0;
  do
  :: queue[at] != t -> at++
  :: else -> break
  od;
  do
  :: at + 1 < queued -> queue[at] = queue[at + 1]; at++
  :: else -> break
  od;
  queued--;
  queue[queued] = 0;
  at = 0;
  waiting = queued
}

inline Notify(t, what) { signal[t] = (signal[t] == GRANTED || signal[t] == DISABLED -> signal[t] : what) }

inline HandOff() {
#ifdef BUG_HANDOFF_FREES_THE_WORD
  word = FREE;
#endif
  d_step {
    last_holder = queue[0];
    Dequeue(last_holder);
    request[last_holder] = false;
    Notify(last_holder, GRANTED)
  }
}

inline RevokeBias(t) {
  if
  :: bias != NOBODY ->
     d_step { who = bias; bias = NOBODY };
#ifndef BUG_REVOKE_WITHOUT_FENCE
     Heavy(t);
#endif
     d_step {
       if
       :: hold[who] == BIASED -> converted[who] = true; word = HELD
       :: else -> word = FREE
       fi;
       who = 0
     }
  :: else
  fi
}

inline UnbiasSelf(t) {
  d_step {
    if
    :: MyHold(t) == BIASED ->
       if
       :: bias == t -> bias = NOBODY; word = HELD
       :: else -> converted[t] = false
       fi;
       pending[t] = EMPTY;
       hold[t] = PLAIN
    :: else
    fi
  }
}

inline ClearStaleRequest(t) {
  if
  :: request[t] ->
     Lock(t);
     d_step {
       if
       :: queued == 0 || !asked[queue[0]] -> request[t] = false
       :: else
       fi
     };
     Unlock(t)
  :: else
  fi
}

inline Enter() { atomic { inside++; assert(inside == 1) } }

/* --- The threads. Labels stand for the functions of gil.cc: a model has no stack. */

#define WORKER 0   /* takes and drops, answers requests */
#define HOLDER 1   /* holds the GIL from the start and gives it up only when asked */
#define MAIN 2     /* holds the GIL from the start, tells thread 1 to exit, and may wait for that before it drops */
#define DAEMON 3   /* takes and drops until it must exit */
#define OUTSIDER 4 /* tells thread 1 to exit without holding the GIL */
#define LAST 5     /* holds the GIL from the start, drops it for the last time */
#define SWITCHER 6 /* holds the GIL from the start, switches it off, and perhaps on again */

proctype Thread(byte me; byte role) {
  byte other, at, who, takes;
  bool ok, was_asked, was_tail, timed_out, leaving, told;

  if
  :: role == HOLDER -> Enter(); goto hold_until_asked
  :: role == MAIN -> goto taken
  :: role == OUTSIDER -> goto request_exit
  :: role == LAST -> Enter(); inside--; goto drop_slow
#ifdef SWITCH
  :: role == SWITCHER -> Enter(); inside--; goto switch_off
#endif
  :: else
  fi;

take:
#ifdef SWITCH
  if
  :: !on -> goto without
  :: else
  fi;
#endif
  if
  :: bias == me ->
     Store(me, HOLD_BIASED);
     Light(me);
     if
     :: bias == me -> goto taken
     :: else -> Store(me, HOLD_NONE); goto take_slow
     fi
  :: else
  fi;
  TryAcquireWord(me);
  if
  :: !ok -> goto take_slow
  :: else
  fi;
  hold[me] = PLAIN;
  if
  :: exiting[me] -> leaving = true; goto drop_slow
  :: else
  fi;
  last_holder = me;
  ClearStaleRequest(me);
  if
  :: grants < GRANTS ->
     Lock(me);
     d_step {
       if
#ifndef BUG_BIAS_FOR_THE_EXITING
       :: queued == 0 && !exiting[me] -> hold[me] = BIASED; word = BIASED; bias = me; grants++
#else
       :: queued == 0 -> hold[me] = BIASED; word = BIASED; bias = me; grants++
#endif
       :: else
       fi
     };
     Unlock(me)
  :: true
  fi;
  goto taken;

take_slow:
  Lock(me);
#ifdef SWITCH
  if
  :: !on -> Unlock(me); goto without
  :: else
  fi;
#endif
#ifndef BUG_CONVERSION_OVERLOOKED
  if
  :: converted[me] -> converted[me] = false; Unlock(me); goto acquired
  :: else
  fi;
#endif
  if
  :: exiting[me] -> Unlock(me); goto must_exit
  :: else
  fi;
  RevokeBias(me);
  TryAcquireWord(me);
  if
  :: ok -> Unlock(me); goto acquired
  :: else
  fi;
  Enqueue(me);

wait:   /* with the lock and a place in the queue */
  if
  :: signal[me] == GRANTED -> Unlock(me); goto acquired
  :: signal[me] == DISABLED -> Unlock(me); goto without
  :: else -> signal[me] = NONE
  fi;
  if
  :: exiting[me] ->
     d_step {
       was_tail = queue[queued - 1] == me;
       Dequeue(me);
#ifndef BUG_96387
       if
       :: asked[me] && last_holder != NOBODY -> request[last_holder] = false
       :: else
       fi;
#endif
     };
#ifndef BUG_LEAVER_SWALLOWS_WAKE
     if
     :: word == FREE && queued != 0 -> Notify(queue[0], LOOK_AGAIN)
     :: else
     fi;
#endif
     d_step {
       if
       :: was_tail && queued != 0 -> Notify(queue[queued - 1], LOOK_AGAIN)
       :: else
       fi;
       was_tail = false
     };
     Unlock(me);
     goto must_exit
  :: else
  fi;
  if
  :: queue[0] == me ->
     TryAcquireWord(me);
     if
     :: ok -> d_step { Dequeue(me); last_holder = me }; Unlock(me); goto acquired
     :: else
     fi
  :: else
  fi;
  if
  :: overdue[me] && queue[0] == me ->
     atomic {
       overdue[me] = false;
       if
       :: last_holder != NOBODY && word == HELD ->
          assert(last_holder != 0 || !freed);
          request[last_holder] = true; asker[last_holder] = me; asked[me] = true
       :: else
       fi
     }
  :: else
  fi;
  if
  :: !owners_see_waiters ->
     Unlock(me);
#ifndef BUG_PARK_WITHOUT_FENCE
     Heavy(me);
#endif
     Lock(me);
     owners_see_waiters = true;
     goto wait
  :: else
  fi;
  Unlock(me);
  /* Sleeps. The last one in the queue keeps time. */
  if
  :: signal[me] != NONE
  :: inside != 0 && !closing && queued != 0 && queue[queued - 1] == me -> timed_out = true
  fi;
  if
  :: signal[me] == GRANTED -> timed_out = false; goto acquired
  :: signal[me] == DISABLED -> timed_out = false; goto without
  :: else
  fi;
  Lock(me);
  d_step {
    if
    :: timed_out && signal[me] != GRANTED && signal[me] != DISABLED && queue[queued - 1] == me ->
       overdue[queue[0]] = true;
       if
       :: queue[0] != me -> Notify(queue[0], LOOK_AGAIN)
       :: else
       fi
    :: else
    fi;
    timed_out = false
  };
  goto wait;

acquired:   /* with the word */
  hold[me] = PLAIN;
#ifndef BUG_36475
  if
  :: exiting[me] -> leaving = true; goto drop_slow
  :: else
  fi;
#endif
  last_holder = me;
  ClearStaleRequest(me);

taken:
  assert(!told);
#ifdef EXIT
  assert(role != DAEMON || !closing);   /* it was set by a holder */
#endif
  Enter();
#ifdef FINAL
  freed = true;
#endif
  if
  :: role == MAIN && !closing -> goto request_exit
  :: role == MAIN && closing -> goto closing_time
  :: role == HOLDER -> inside--; goto drop
  :: else
  fi;
  if
  :: request[me] -> inside--; goto yield
  :: inside--; goto drop
  fi;

hold_until_asked:
  request[me];
  inside--;
  goto yield;

closing_time:
  if
  :: request[me] -> inside--; goto yield
  :: left -> inside--; goto drop
  :: inside--; goto drop                 /* or does not wait */
  fi;

yield:
  Lock(me);
  UnbiasSelf(me);
  /* gh-96387: nobody is asked any more by a thread that has left. */
  assert(!(request[me] && left && queued == 0 && asker[me] == 1));
  request[me] = false;
  if
  :: exiting[me] -> leaving = true; goto drop_locked
  :: else
  fi;
  if
  :: queued == 0 ->
     Unlock(me);
     goto taken
  :: else
  fi;
  hold[me] = NONE;
#ifndef BUG_YIELD_DOES_NOT_QUEUE
  Enqueue(me);
  owners_see_waiters = true;
#endif
  HandOff();
#ifdef BUG_YIELD_DOES_NOT_QUEUE
  signal[me] = NONE;
  Unlock(me);
  signal[me] != NONE;
  goto acquired;
#endif
  goto wait;

drop:
  if
  :: MyHold(me) == BIASED ->
     Store(me, HOLD_NONE);
     Light(me);
     if
     :: bias == me -> goto dropped
     :: else
     fi;
     Lock(me);
     if
     :: converted[me] -> converted[me] = false; goto release
     :: else -> Unlock(me); goto dropped
     fi
  :: else
  fi;
  if
  :: waiting != 0 -> goto drop_slow
  :: else
  fi;
  hold[me] = NONE;
  Store(me, WORD_FREE);
  Light(me);
  if
  :: waiting == 0 -> goto dropped
  :: else
  fi;
#ifdef BUG_DROP_IGNORES_WAITERS
  goto dropped;
#endif
  Lock(me);
  if
  :: word == FREE && queued != 0 -> Notify(queue[0], LOOK_AGAIN)
  :: else
  fi;
  Unlock(me);
  goto dropped;

drop_slow:
  Lock(me);
  UnbiasSelf(me);
drop_locked:
  hold[me] = NONE;
release:   /* ReleaseOrHandOff */
  skip;
  d_step { was_asked = request[me]; request[me] = false };
  if
  :: queued == 0 -> word = FREE
  :: queued != 0 -> owners_see_waiters = true; HandOff()   /* asked, or passed over for too long */
  :: queued != 0 && !was_asked ->
     owners_see_waiters = true;
     asked[queue[0]] = false;
     word = FREE;
     Notify(queue[0], LOOK_AGAIN)
  fi;
  was_asked = false;
  d_step {
    if
    :: role == LAST && last_holder == me -> last_holder = NOBODY
    :: else
    fi
  };
  Unlock(me);
  if
  :: role == LAST ->
#ifdef BUG_104341
     assert(!freed);
     request[me] = false;
#endif
     goto done
  :: else
  fi;
  if
  :: leaving -> goto must_exit
  :: else
  fi;

  goto dropped;

#ifdef SWITCH
switch_off:
  Lock(me);
  d_step { on = false; hold[me] = NONE; request[me] = false };
  do
  :: queued != 0 ->
     d_step { who = queue[0]; Dequeue(who); Notify(who, DISABLED); who = 0 };
#ifdef BUG_GI_33
     break
#endif
  :: queued == 0 -> break
  od;
  word = FREE;
  Unlock(me);
  if
  :: on = true; goto take      /* in a stopped world */
  :: goto done
  fi;
#endif

without:   /* attached, and does not hold the GIL */
#ifdef BUG_118727
  if
  :: on -> word = FREE
  :: else
  fi;
#endif
  goto dropped;

dropped:
  takes++;
  if
  :: role == DAEMON -> takes = 0; told = closing; goto take
  :: role == WORKER && takes < TAKES -> goto take
  :: else -> goto done
  fi;

request_exit:
  Lock(me);
  exiting[1] = true;
#ifndef BUG_EXIT_KEEPS_BIAS
  if
  :: bias == 1 -> RevokeBias(me)
  :: else
  fi;
#endif
#ifndef BUG_EXIT_DOES_NOT_WAKE
  d_step {
    at = 0;
    do
    :: at < queued ->
       if
       :: queue[at] == 1 -> Notify(1, LOOK_AGAIN)
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0
  };
#endif
  Unlock(me);
  closing = true;
  if
  :: role == OUTSIDER -> goto done
  :: else
  fi;
  if
  :: true -> left                        /* waits for it with the GIL, deaf to requests */
  :: true
  fi;
  goto closing_time;

must_exit:
  assert(role == DAEMON);
  left = true;

done:
  skip
}

/* A store becomes visible when the processor likes. */
active proctype Memory() {
end:
  do
  :: atomic { pending[0] != EMPTY -> Publish(0) }
  :: atomic { pending[1] != EMPTY -> Publish(1) }
#if N > 2
  :: atomic { pending[2] != EMPTY -> Publish(2) }
#endif
  od
}

init {
  atomic {
#ifdef BUSY
    word = HELD;
    hold[0] = PLAIN;
    last_holder = 0;
    run Thread(0, HOLDER);
    run Thread(1, WORKER);
#elif defined(EXIT)
    word = HELD;
    hold[0] = PLAIN;
    last_holder = 0;
    run Thread(0, MAIN);
    run Thread(1, DAEMON);
#elif defined(FINAL)
    word = HELD;
    hold[0] = PLAIN;
    last_holder = 0;
    run Thread(0, LAST);
    run Thread(1, WORKER);
#elif defined(SWITCH)
    word = HELD;
    hold[0] = PLAIN;
    last_holder = 0;
    run Thread(0, SWITCHER);
    run Thread(1, WORKER);
#elif defined(EXIT_FROM_OUTSIDE)
    run Thread(0, OUTSIDER);
    run Thread(1, DAEMON);
#else
    run Thread(0, WORKER);
    run Thread(1, WORKER);
#endif
#if N > 2
    run Thread(2, WORKER);
#endif
  }
}
