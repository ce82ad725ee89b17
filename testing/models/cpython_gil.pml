/* CPython's GIL as of 3.12, take_gil and drop_gil of Python/ceval_gil.c: two mutexes, two condition variables, FORCE_SWITCHING.
 * Beside gil.pml to show what the same tools say of the protocol that pyrt replaces, and that they find its history.
 *
 * A condition variable: `waits_*` says that a thread waits, a signal clears it; a timed wait may end at any time, which
 * stands for the interval and for spurious wake-ups.
 *
 * The main thread works, sets `finalizing`, lets go and takes again, as Py_FinalizeEx does, and frees the interpreter.
 *
 *   BUG_96387     a daemon thread that has asked for a drop and then exits leaves its request behind: the main thread waits
 *                 for a switch that nobody makes (gh-96387)
 *   BUG_96387_WINDOW   the same for a moment: the request is withdrawn after the mutex was released, as CPython's correction
 *                 has it, so that a main thread which drops in between still waits for ever
 *   BUG_104341    the last drop of an interpreter's own GIL looks into the interpreter after letting go (gh-104341)
 *   BUG_36475     the thread that has taken the GIL does not look again whether it may run (bpo-36475) */

#define NOBODY 255
#define Locals bool drop_requested, timed_out; byte saved_switches

bool mutex, switch_mutex;
bool locked;
byte last_holder = NOBODY;
byte switches;              /* modulo 4: enough to tell one from the next */
bool drop_request;
bool waits_cond[2], waits_switch[2];
bool finalizing;
bool last_drop;             /* of the main thread, and of the interpreter, has begun */
bool freed;                 /* the interpreter, with its GIL */
byte inside;

inline Lock(m) { atomic { !m -> m = true } }
inline Unlock(m) { m = false }

inline SignalCond() {
  atomic {
    if
    :: waits_cond[0] -> waits_cond[0] = false
    :: waits_cond[1] -> waits_cond[1] = false
    :: else
    fi
  }
}

inline SignalSwitch() {
  atomic {
    if
    :: waits_switch[0] -> waits_switch[0] = false
    :: waits_switch[1] -> waits_switch[1] = false
    :: else
    fi
  }
}

inline DropGil(me, final) {
  assert(locked);
  last_holder = me;
  Lock(mutex);
  locked = false;
  SignalCond();
  Unlock(mutex);
  if
#ifndef BUG_104341
  :: final
#endif
  :: else ->
     assert(!freed);
     if
     :: drop_request ->
        Lock(switch_mutex);
        if
        :: last_holder == me ->
           drop_request = false;
           atomic { waits_switch[me] = true; Unlock(switch_mutex) };
           atomic { !waits_switch[me] && !switch_mutex -> switch_mutex = true }
        :: else
        fi;
        Unlock(switch_mutex)
     :: else
     fi
  fi
}

/* Ends at the label `gone` if the thread may not run. */
inline TakeGil(me) {
  drop_requested = false;
  if
  :: finalizing && me != 0 -> goto gone
  :: else
  fi;
  Lock(mutex);
  do
  :: locked ->
     saved_switches = switches;
     timed_out = false;
     atomic { waits_cond[me] = true; Unlock(mutex) };
     if
     :: atomic { !waits_cond[me] && !mutex -> mutex = true }
     :: atomic { locked && !mutex -> mutex = true; timed_out = waits_cond[me]; waits_cond[me] = false }
     fi;
     if
     :: timed_out && locked && switches == saved_switches ->
        if
        :: finalizing && me != 0 ->
#ifdef BUG_96387_WINDOW
           Unlock(mutex);
#endif
#ifndef BUG_96387
           if
           :: drop_requested -> drop_request = false
           :: else
           fi;
#endif
#ifndef BUG_96387_WINDOW
           Unlock(mutex);
#endif
           goto gone
        :: else
        fi;
        drop_request = true;
        drop_requested = true
     :: else
     fi
  :: else -> break
  od;
  Lock(switch_mutex);
  locked = true;
  if
  :: last_holder != me -> last_holder = me; switches = (switches + 1) % 4
  :: else
  fi;
  SignalSwitch();
  Unlock(switch_mutex);
#ifndef BUG_36475
  if
  :: finalizing && me != 0 -> Unlock(mutex); DropGil(me, true); goto gone
  :: else
  fi;
#endif
  drop_request = false;
  Unlock(mutex)
}

inline Enter() { atomic { inside++; assert(inside == 1) } }

active proctype Main() {
  Locals;
  byte rounds;
  TakeGil(0);
  do
  :: Enter();
     if
     :: rounds == 1 -> finalizing = true
     :: else
     fi;
     inside--;
     rounds++;
     if
     :: rounds == 3 -> break
     :: else -> DropGil(0, false); TakeGil(0)
     fi
  od;
  last_drop = true;
  DropGil(0, true);
gone:
  skip
}

#ifndef HEIR
active proctype Daemon() {
  Locals;
  byte rounds;
  do
  :: TakeGil(1);
     Enter();
     assert(!finalizing);
     inside--;
     DropGil(1, false);
     rounds++;
     if
     :: rounds == 2 -> break
     :: else
     fi
  od;
gone:
  skip
}
#else
/* Ends the interpreter, whose GIL is its own, as soon as its last thread has let go. */
active proctype Heir() {
  atomic { last_drop && !locked && !mutex -> freed = true }
}
#endif
