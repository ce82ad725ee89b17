/* Stop-the-world of tstate/stop_the_world.h in the GIL-disabled build, with fork, deletion and birth of threads.
 *
 * Memory is x86's, as in gil.pml: the store of a detach may stay invisible until the thread's next locked instruction or
 * anybody's AsymmetricFence::Heavy().
 *
 * Each thread attaches, works and detaches; by its role it also stops the world (attached or not), forks while the world
 * is stopped, deletes its state, is born meanwhile, lets nobody attach any more, or stops inside a critical section whose
 * mutex is handed over to those who wait for it. In the forked child the others are gone in mid-step and what they
 * locked stays locked; the child stops the world once more and ends.
 *
 * There are two scopes of a stop, each with its mutex, and the gate that keeps them apart: attached threads stop their
 * interpreter, of which there is one here; who stops detached, forks or finalizes stops everything. With -DGIL the GIL of
 * this build is on, as a lock that is just taken and dropped: how that is done is gil.pml's.
 *
 * Mistakes, each of which must be found; names as in the sources where they have a PYRT_MUTANT:
 *   BUG_PARK_WITHOUT_FENCE     BUG_DETACH_IGNORES_REQUESTS   BUG_DELETION_IS_NO_ACKNOWLEDGEMENT
 *   BUG_116396  a thread that stops leaves its word detached and attaches again
 *   BUG_151518  whoever waits to attach is suspended again by the next stop, before it runs: starvation
 *   BUG_148953  a stopper that waits for its turn stays attached, and the other stopper waits for it
 *   BUG_112275  the child inherits the head lock
 *   BUG_NEWBORN a state that is born during a stop may attach
 *   BUG_DETACHED_MEANWHILE  a thread that detaches between the stopper's two looks gets no token, and attaches again
 *   BUG_133130  a thread that got its turn to stop while it was detached, and must exit, hangs with it
 *   BUG_137433  a thread that has its interpreter's mutex and waits for the gate attaches again before it has both, and
 *               hangs with the one
 *   BUG_119369  who waits for the head lock detaches meanwhile, gets the lock, and then wants the GIL back, while a thread
 *               that ends has that and waits for the lock
 *   BUG_OVERLAP a stop of the interpreter and one of everything do not keep each other out
 *   BUG_118332  a section is left for the stop and entered again in the stopped world, whose threads may own its mutex
 *   BUG_COUNTED_TWICE  a look that finds a thread detached counts it without taking its token
 */

#ifndef N
#define N 3
#endif
#define NOBODY 255
#define HANDING_OUT 100

/* word */
#define DETACHED 0
#define ATTACHED 1
#define SUSPENDED 2
#define SUSPENDED_WAITING 3
#define DETACHED_WAITING 4

/* scope */
#define ONE 0       /* the interpreter */
#define ALL 1

byte word[N];
bool token[N];
bool please_stop[N];
bool pending[N];     /* a store of DETACHED that the others may not see */
bool listed[N];
bool head_lock, requested;
bool mutex[2];                                   /* of each scope */
bool gate_interpreter, gate_all, gate_wanted;    /* StopGate */
byte counter;
bool closing;            /* nobody attaches any more */
byte closer = NOBODY;    /* but this one */
byte section = NOBODY;   /* who owns the critical section's mutex */
bool queued[N];          /* who waits for it */
#ifdef GIL
byte gil = NOBODY;
#endif

bool stopped;        /* ghost: the stopper says so */
byte stopper = NOBODY;
byte running;        /* ghost: attached threads other than the stopper */
byte bypassed[N];    /* ghost: stops that were over while the thread waited to attach */
bool forked;
byte survivor = NOBODY;

/* What a detach stores: the word and, after it, the GIL. */
#ifdef GIL
#define BecomeVisible(t) word[t] = DETACHED; pending[t] = false; gil = (gil == t -> NOBODY : gil)
#else
#define BecomeVisible(t) word[t] = DETACHED; pending[t] = false
#endif

inline Publish(t) {
  if
  :: pending[t] -> BecomeVisible(t)
  :: else
  fi
}

inline Heavy() {
  d_step {
    at = 0;
    do
    :: at < N -> Publish(at); at++
    :: else -> break
    od;
    at = 0
  }
}

inline Lock(lock) { atomic { !lock -> lock = true } }
inline Unlock(lock) { lock = false }

inline TrySuspend(t) {
  d_step {
    ok = word[t] == DETACHED;
    if
    :: ok -> word[t] = SUSPENDED
    :: else
    fi
  }
}

/* A fetch_and: flushes `by`. */
inline Claim(t, by) {
  d_step {
    Publish(by);
    ok = token[t];
    token[t] = false
  }
}

inline Acknowledge(n) { atomic { assert(counter >= (n)); counter = counter - (n) } }

/* --- Attach and detach. */

#define MayRun(me) (!closing || closer == me)

inline BecomeAttached(me) {
  pending[me] = false;
  word[me] = ATTACHED;
  bypassed[me] = 0;
  assert(!stopped || stopper == me);
  running++
}

inline Detach(me) {
  atomic { running--; pending[me] = true };
#ifndef BUG_DETACH_IGNORES_REQUESTS
  if
  :: token[me] ->
     Claim(me, me);
     if
     :: ok ->
#ifndef BUG_116396
        TrySuspend(me);
#endif
        Acknowledge(1)
     :: else
     fi
  :: else
  fi
#else
  skip
#endif
}

inline Attach(me) {
  do
  :: !MayRun(me) -> goto gone
#ifdef GIL
  :: atomic { MayRun(me) && (gil == NOBODY || gil == me) -> Publish(me); gil = me };
     if
     :: atomic { word[me] == DETACHED -> BecomeAttached(me) };
        break
     :: word[me] != DETACHED -> gil = NOBODY;     /* before it sleeps */
        if
        :: atomic { word[me] == SUSPENDED -> word[me] = SUSPENDED_WAITING };
           if
           :: atomic { MayRun(me) && word[me] == DETACHED_WAITING -> BecomeAttached(me) };
              Detach(me)                          /* for it has not got the GIL */
           :: !MayRun(me) -> goto gone
           fi
        :: word[me] == DETACHED
        fi
     fi
#else
  :: atomic { MayRun(me) && (pending[me] || word[me] == DETACHED || word[me] == DETACHED_WAITING) ->
       BecomeAttached(me) };
     break
  :: atomic { !pending[me] && word[me] == SUSPENDED -> word[me] = SUSPENDED_WAITING };
     word[me] != SUSPENDED_WAITING || !MayRun(me)
#endif
  od
}

/* --- The mutex of a critical section: who waits is detached, and may be given it meanwhile. */

inline EnterSection(me) {
  do
  :: atomic { section == NOBODY -> section = me };
     break
  :: atomic { section != NOBODY && section != me -> queued[me] = true };
     Detach(me);
     section == NOBODY || section == me;
     queued[me] = false;
     Attach(me)
  :: section == me -> break
  od
}

inline LeaveSection(me) {
  atomic {
    if
    :: queued[1 - me] -> section = 1 - me
    :: section = NOBODY
    fi
  }
}

/* --- The turn to stop. */

#ifndef BUG_OVERLAP
#define GateIsOpen (scope == ALL -> !gate_interpreter : !gate_all && !gate_wanted)
#else
#define GateIsOpen true
#endif

inline PassGate() {
  if
  :: scope == ALL -> gate_all = true; gate_wanted = false
  :: scope == ONE -> gate_interpreter = true
  fi
}

inline OwnScope() {
  Lock(mutex[scope]);
  if
  :: scope == ALL -> gate_wanted = true
  :: scope == ONE
  fi;
  atomic { GateIsOpen -> PassGate() }
}

inline DisownScope() {
  if
  :: scope == ALL -> gate_all = false
  :: scope == ONE -> gate_interpreter = false
  fi;
  Unlock(mutex[scope])
}

/* An attached thread detaches while it waits. */
inline EnterScope() {
  atomic {
    ok = !mutex[scope] && GateIsOpen;
    if
    :: ok -> mutex[scope] = true; PassGate()
    :: else
    fi
  };
  if
  :: ok
  :: !ok && !attached -> OwnScope()
  :: !ok && attached ->
#ifdef BUG_148953
     OwnScope()
#else
     if
     :: inside -> LeaveSection(me)      /* a detached thread is in no section */
     :: else
     fi;
#ifdef BUG_137433
     do
     :: atomic { !mutex[scope] -> mutex[scope] = true };
        break
     :: mutex[scope] -> Detach(me); !mutex[scope]; Attach(me)
     od;
     do
     :: atomic { GateIsOpen -> PassGate() };
        break
     :: !GateIsOpen -> Detach(me); GateIsOpen; Attach(me)
     od;
#else
     Detach(me);
     OwnScope();
#ifndef BUG_133130
     if
     :: !MayRun(me) -> DisownScope()
     :: else
     fi;
#endif
     Attach(me);
#endif
     if
     :: inside -> EnterSection(me)
     :: else
     fi
#endif
  fi
}

/* --- Stop and start. `t` runs over the others. */

#define EachOther(me, step)                 \
  t = 0;                                    \
  do                                        \
  :: t < N ->                               \
     if                                     \
     :: t != me && listed[t] -> step        \
     :: else                                \
     fi;                                    \
     t++                                    \
  :: else -> t = 0; break                   \
  od

inline HandOut() {
  TrySuspend(t);
  if
#ifndef BUG_DETACHED_MEANWHILE
  :: !ok && word[t] != SUSPENDED && word[t] != SUSPENDED_WAITING ->
#else
  :: !ok && (word[t] == ATTACHED || word[t] == DETACHED_WAITING) ->
#endif
     token[t] = true;
     please_stop[t] = true;
     TrySuspend(t);
     if
     :: ok ->
        Claim(t, me);
        outstanding = outstanding + !ok
     :: else -> outstanding++
     fi
  :: else
  fi
}

inline Look() {
  if
  :: word[t] == DETACHED ->
     TrySuspend(t);
     if
     :: ok ->
#ifndef BUG_COUNTED_TWICE
        Claim(t, me);
#endif
        found = found + ok
     :: else
     fi
  :: else
  fi
}

inline LookAgain() {
  Lock(head_lock);
  EachOther(me, Look());
  Unlock(head_lock);
  Acknowledge(found);
  found = 0
}

/* As a stopper. Attached or not it waits as it is, so that the lock's owner needs nothing that a waiter has. */
inline LockHead() {
#ifdef BUG_119369
  if
  :: atomic { !head_lock -> head_lock = true }
  :: head_lock && attached -> Detach(me); Lock(head_lock); Attach(me)
  :: head_lock && !attached -> Lock(head_lock)
  fi
#else
  Lock(head_lock)
#endif
}

inline Stop(which) {
  scope = which;
#ifdef BUG_118332
  if
  :: inside -> LeaveSection(me)
  :: else
  fi;
#endif
  EnterScope();
  LockHead();
  requested = true;
  counter = HANDING_OUT;
  EachOther(me, HandOut());
  Unlock(head_lock);
  Acknowledge(HANDING_OUT - outstanding);
  outstanding = 0;
  if
  :: counter == 0
  :: LookAgain()              /* while it spins */
  :: true
  fi;
#ifndef BUG_PARK_WITHOUT_FENCE
  Heavy();
#endif
  LookAgain();
  counter == 0;               /* sleeps */
  atomic {
    assert(running == attached);
    stopper = me;
    stopped = true
  };
#ifdef BUG_118332
  if
  :: inside -> section == NOBODY || section == me; section = me
  :: else
  fi
#endif
}

inline LetGo() {
  d_step {
    if
    :: word[t] == SUSPENDED -> word[t] = DETACHED
    :: word[t] == SUSPENDED_WAITING ->
#ifndef BUG_151518
       word[t] = DETACHED_WAITING;
#else
       word[t] = DETACHED;
#endif
       bypassed[t]++;
       assert(bypassed[t] < 2)
    :: word[t] == DETACHED_WAITING || word[t] == ATTACHED || word[t] == DETACHED
    fi
  }
}

inline Start() {
  assert(running == attached);
  Lock(head_lock);
  d_step { stopped = false; stopper = NOBODY; requested = false };
  EachOther(me, LetGo());
  Unlock(head_lock);
  DisownScope()
}

/* --- The threads. */

#define PLAIN 0            /* attaches, polls, detaches */
#define STOPPER 1          /* attached, stops its interpreter */
#define OUTSIDER 2         /* stops everything, detached */
#define FORKER 3           /* attached, forks when everything is stopped */
#define LEAVER 4           /* deletes its state while it is attached */
#define NEWBORN 5          /* creates its state first */
#define FINALIZER 6        /* stops everything, lets nobody attach any more, and stops its interpreter after that */
#define SECTION 7          /* stops inside a critical section */
#define VISITOR 8          /* in the same critical section */
#define CALLER 9           /* is detached during a call */

proctype Thread(byte me; byte role) {
  byte at, t, outstanding, found, scope;
  bool ok, attached, inside;
  {
    if
    :: role == NEWBORN ->
       Lock(head_lock);
#ifndef BUG_NEWBORN
       word[me] = (requested -> SUSPENDED : DETACHED);
#endif
       listed[me] = true;
       Unlock(head_lock)
    :: else
    fi;
    if
    :: role != OUTSIDER ->
       Attach(me);
       attached = true
    :: else
    fi;
    if
    :: role == SECTION || role == VISITOR -> EnterSection(me); inside = true
    :: else
    fi;
    if
    :: please_stop[me] && attached && !inside ->
       please_stop[me] = false;
       Detach(me);
       Attach(me)
    :: role == STOPPER || role == OUTSIDER || role == FORKER || role == FINALIZER || role == SECTION ->
       Stop((role == STOPPER || role == SECTION -> ONE : ALL));
       if
       :: role == FORKER -> atomic { survivor = me; forked = true }
       :: role == FINALIZER ->
          d_step {                       /* off the list with their states, in one step */
            closer = me;
            closing = true;
            t = 0;
            do
            :: t < N -> listed[t] = t == me; t++
            :: else -> break
            od;
            t = 0
          }
       :: else
       fi;
       assert(stopped && running == attached);
       Start();
       if
       :: role == OUTSIDER -> Stop(ALL); Start()
       :: role == FINALIZER -> Stop(ONE); Start()
       :: else
       fi
    :: role == LEAVER ->
       Lock(head_lock);
       listed[me] = false;
       running--;
#ifndef BUG_DELETION_IS_NO_ACKNOWLEDGEMENT
       Claim(me, me);
       if
       :: ok -> Acknowledge(1)
       :: else
       fi;
#endif
       Unlock(head_lock);
#ifdef GIL
       gil = NOBODY;                     /* its last deed, so that it has waited for the head lock with the GIL */
#endif
       goto gone
    :: role == CALLER -> Detach(me); Attach(me)
    :: role == PLAIN || role == NEWBORN || role == VISITOR
    fi;
    if
    :: inside -> LeaveSection(me); inside = false
    :: else
    fi;
    if
    :: attached -> Detach(me); attached = false
    :: else
    fi
  } unless { forked };
gone:
  skip
}

/* Takes the head lock without being a thread that anybody stops: someone who creates a state. */
active proctype Registrar() {
  { Lock(head_lock); Unlock(head_lock) } unless { forked }
}

/* The child's only thread. The parent's part of it goes nowhere else in this model. */
active proctype Child() {
  byte me, t, at, outstanding, found, scope;
  bool ok, attached, inside;
end:
  forked;
  me = survivor;
  attached = true;
  d_step {
#ifndef BUG_112275
    head_lock = false;
#endif
    mutex[ONE] = false;
    mutex[ALL] = false;
    gate_interpreter = false;
    gate_all = false;
    gate_wanted = false;
#ifdef GIL
    gil = me;
#endif
    section = NOBODY;
    requested = false;
    counter = 0;
    stopped = false;
    stopper = NOBODY;
    pending[me] = false;
    token[me] = false;
    running = 1;
    do
    :: t < N ->
       if
       :: t != me -> listed[t] = false
       :: else
       fi;
       t++
    :: else -> break
    od;
    t = 0
  };
  Stop(ALL);
  Start();
gone:
  skip
}

/* A store becomes visible when the processor likes. */
active proctype Memory() {
  byte t;
end:
  do
  :: atomic { pending[0] -> BecomeVisible(0) }
  :: atomic { pending[1] -> BecomeVisible(1) }
#if N > 2
  :: atomic { pending[2] -> BecomeVisible(2) }
#endif
  od
}

#ifndef ROLE0
#define ROLE0 OUTSIDER
#endif
#ifndef ROLE1
#define ROLE1 PLAIN
#endif
#ifndef ROLE2
#define ROLE2 PLAIN
#endif

init {
  atomic {
    listed[0] = ROLE0 != NEWBORN;
    listed[1] = ROLE1 != NEWBORN;
    run Thread(0, ROLE0);
    run Thread(1, ROLE1);
#if N > 2
    listed[2] = ROLE2 != NEWBORN;
    run Thread(2, ROLE2);
#endif
  }
}
