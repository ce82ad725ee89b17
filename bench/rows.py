"""The rows of the comparison. To add a measurement, add a Row here; nothing else has to change.

A row names, for each side, a benchmark and which of its figures to read. "cpu_time", the default, is for loops on one
thread: the CPU time of an iteration, which a busy machine does not stretch. Contended threads report counters;
those that end in _ns are nanoseconds, and <distribution>_p99_ns is taken over the samples of all repetitions. A side
that is None shows "-"; a side whose program lacks the benchmark shows why. `pyrt` may be one name, or a pair (GIL enabled, GIL disabled) where the two builds differ.

Targets say what pyrt has to reach in the unit of the row: AtMost(6), AtLeast(95), or relative to the floor of the
same run: AtMostTimesFloor(1.05), AtMostOverFloor(0.3).
"""

from dataclasses import dataclass
from typing import Optional, Tuple, Union


@dataclass(frozen=True)
class AtMost:
    limit: float

    def met(self, value, floor):
        return value <= self.limit

    def __str__(self):
        return f"<= {self.limit:g}"


@dataclass(frozen=True)
class AtLeast:
    limit: float

    def met(self, value, floor):
        return value >= self.limit

    def __str__(self):
        return f">= {self.limit:g}"


@dataclass(frozen=True)
class AtMostTimesFloor:
    factor: float

    def met(self, value, floor):
        return None if floor is None else value <= self.factor * floor

    def __str__(self):
        return f"<= {self.factor:g} x floor"


@dataclass(frozen=True)
class AtMostOverFloor:
    extra: float

    def met(self, value, floor):
        return None if floor is None else value <= floor + self.extra

    def __str__(self):
        return f"<= floor + {self.extra:g}"


Target = Union[AtMost, AtLeast, AtMostTimesFloor, AtMostOverFloor]


@dataclass(frozen=True)
class Row:
    id: str  # what --filter matches, together with the title
    group: str  # heading; the rows of a group are measured close together in time
    title: str
    unit: str  # ns, us, ms, %, or a plain word; decides the scaling
    pyrt: Union[None, str, Tuple[Optional[str], Optional[str]]]
    peer: Optional[str]
    floor: Optional[str] = None
    metric: str = "cpu_time"
    floor_metric: Optional[str] = None  # by default the latency's p50 of a contended floor, cpu_time of another
    target: Optional[Target] = None
    target_ft: Optional[Target] = None  # where the GIL-disabled build has another one
    better: str = "lower"
    detail: Optional[str] = None  # a distribution ("gap", "grant", ...) to plot and to list in the second table
    curve: Optional[Tuple[str, float]] = None  # (name of the plot, x): a point of a scaling curve
    axis: str = "threads"  # what the x of the curve counts
    scaling: bool = False  # how a cost grows: measured with --scaling only

    def pyrt_name(self, gil: bool) -> Optional[str]:
        if self.pyrt is None or isinstance(self.pyrt, str):
            return self.pyrt
        return self.pyrt[0] if gil else self.pyrt[1]

    def target_of(self, gil: bool) -> Optional[Target]:
        return self.target if gil or self.target_ft is None else self.target_ft


def _switch_rows():
    """Forced switches: who polls, at which interval; the gap in which nobody runs, and the time between switches."""
    for interval, text in ((1, "1 us"), (50, "50 us"), (5000, "5 ms")):
        for pollers in (2, 4, 8):
            name = f"BM_ForcedSwitch/pollers:{pollers}/interval_us:{interval}"
            if interval == 1:
                yield Row(
                    id=f"switch.period.{pollers}.{interval}",
                    group="Forced switch between polling threads",
                    title=f"one switch to the next, {pollers} threads, interval {text}",
                    unit="us",
                    pyrt=(name, None),
                    peer=name,
                    floor="BM_FloorLinePingPong",
                    metric="period_p50_ns",
                    target=AtMost(4) if pollers == 2 else None,
                    detail="period",
                    curve=("Forced switch at interval 1 us: one switch to the next (p50)", pollers),
                )
            yield Row(
                id=f"switch.gap.{pollers}.{interval}",
                group="Forced switch between polling threads",
                title=f"nobody runs, {pollers} threads, interval {text}",
                unit="us",
                pyrt=(name, None),
                peer=name,
                floor="BM_FloorLinePingPong",
                metric="gap_p50_ns",
                detail="gap",
                curve=(f"Forced switch at interval {text}: nobody runs (p50)", pollers),
            )


def _stop_rows():
    """Targets: half of what a free-threaded CPython 3.13 was read to take at the median, and 200 us for all at p99.

    They were read on one machine; the floor says what another one charges for nothing but putting the threads to sleep.
    """
    for busy, target in ((1, 2), (2, 9.5), (4, 10.5), (8, 15.5), (16, 21.5)):
        for percentile, limit in (("p50", target), ("p99", 200)):
            name = f"BM_StopTheWorld/busy:{busy}"
            yield Row(
                id=f"stop.{percentile}.{busy}",
                group="Stop the world beside busy threads",
                title=f"{busy} busy, {percentile}",
                unit="us",
                pyrt=(None, name),
                peer=name,
                floor=f"BM_FloorSleepAll/busy:{busy}",
                floor_metric=f"stop_{percentile}_ns",
                metric=f"stop_{percentile}_ns",
                target=AtMost(limit),
                detail="stop" if percentile == "p50" else None,
                curve=(f"Stop the world ({percentile})", busy),
                axis="busy threads",
            )


def _points(id, group, title, name, xs, axis, peer=True, metric="cpu_time", better="lower", unit="ns"):
    """One curve of --scaling: a row for each x. `name` has one {}, where the x goes."""
    for x in xs:
        benchmark = name.format(x)
        yield Row(
            id=f"scale.{id}.{x}",
            group=group,
            title=f"{title}, {axis}: {x}",
            unit=unit,
            pyrt=benchmark,
            peer=benchmark if peer else None,
            metric=metric,
            better=better,
            curve=(f"{group}: {title}", x),
            axis=axis,
            scaling=True,
        )


def _scaling_rows():
    to16, to64 = (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32, 64)
    threads = "As threads are added, wall time per operation of all"

    def on_threads(id, title, name, xs, peer=True):
        return _points(id, threads, title, name, xs, "threads", peer, metric="ns_per_op")

    yield from on_threads("import_lock", "import lock", "BM_ImportLockThreads/threads:{}", to64)
    for own, whose in ((1, "own"), (0, "one")):
        for id, title, name in (("module_lock", "module lock", "BM_ModuleLockThreads"),
                                ("lookup", "module lookup", "BM_ModuleLookupThreads"),
                                ("cached", "cached import", "BM_ImportCachedThreads")):
            yield from on_threads(f"{id}_{whose}", title + (", each its module" if own else ", all one module"),
                                  f"{name}/own:{own}/threads:{{}}", to64)
    yield from on_threads("sys", "sys attribute", "BM_SysAttributeThreads/threads:{}", to16)
    yield from on_threads("sys_immortal", "sys attribute, immortal", "BM_SysAttributeImmortalThreads/threads:{}", to16,
                          peer=False)
    yield from on_threads("audit", "audit with no hook", "BM_AuditNoHookThreads/threads:{}", to16)

    more = "As there is more of it"
    yield from _points("attach", more, "detach + attach beside sleeping threads", "BM_DetachAttachBeside/threads:{}",
                       (1, 4, 16, 64, 256), "threads")
    yield from _points("state", more, "thread state new + clear + delete", "BM_ThreadStateNewDeleteBeside/others:{}",
                       (1, 16, 256, 1024), "other states", peer=False)
    yield from _points("interp_new", more, "interpreter new + end", "BM_InterpreterNewEnd/interpreters:{}",
                       (1, 10, 100, 1000), "interpreters", peer=False)
    yield from _points("interp_find", more, "interpreter by id", "BM_InterpreterLookUp/interpreters:{}",
                       (1, 10, 100, 1000), "interpreters", peer=False)
    yield from _points("modules", more, "module lookup, each in turn", "BM_ModuleLookupAmong/modules:{}",
                       (1, 10, 100, 1000, 10_000, 100_000), "modules")
    # A group of its own is a process of its own: CPython cannot remove a hook again.
    yield from _points("hooks", "As audit hooks are added", "audit", "BM_AuditHooks/hooks:{}", (0, 1, 2, 4, 8, 16), "hooks")


ROWS = [
    # --- The current thread, attach and detach -------------------------------------------------------------------
    Row("tls.current", "Thread state", "current thread state", "ns", "BM_CurrentThreadUnchecked",
        "BM_CurrentThreadUnchecked", "BM_FloorTlsLoad", target=AtMostTimesFloor(1.05)),
    Row("tls.current_checked", "Thread state", "current thread state, fatal if there is none", "ns", "BM_CurrentThread",
        "BM_CurrentThread", "BM_FloorTlsLoad"),
    Row("poll.idle", "Thread state", "poll with nothing pending", "ns", "BM_PollIdle", None, "BM_FloorEmptyLoop",
        target=AtMostOverFloor(0.3)),
    Row("attach.pair", "Thread state", "detach + attach, no contention", "ns", "BM_DetachAttach", "BM_DetachAttach",
        "BM_FloorCasStore", target=AtMost(6)),
    Row("attach.pair_biased", "Thread state", "detach + attach, biased", "ns", ("BM_DetachAttachBiased", None),
        "BM_DetachAttach", "BM_FloorLoadBranch", target=AtMost(2)),
    Row("attach.gil_alone", "Thread state", "drop + take of the GIL alone", "ns", ("BM_GilDropTake", None), None,
        "BM_FloorCasStore"),
    Row("attach.gil_alone_biased", "Thread state", "drop + take of the GIL alone, biased", "ns",
        ("BM_GilDropTakeBiased", None), None, "BM_FloorLoadBranch"),
    Row("ensure.nested", "Ensure and Release", "nested", "ns", "BM_EnsureNested", "BM_EnsureNested",
        "BM_FloorTlsLoad", target=AtMost(1.2)),
    Row("ensure.detached", "Ensure and Release", "from detached", "ns", "BM_EnsureFromDetached", "BM_EnsureFromDetached",
        "BM_FloorCasStore", target=AtMost(8)),
    Row("ensure.detached_biased", "Ensure and Release", "from detached, biased", "ns",
        ("BM_EnsureFromDetachedBiased", None), "BM_EnsureFromDetached", "BM_FloorLoadBranch"),
    Row("ensure.guarded", "Ensure and Release", "nested, with a guard (PEP 788)", "ns", "BM_EnsureGuardedNested", None,
        "BM_FloorTlsLoad"),
    Row("ensure.guarded_detached", "Ensure and Release", "from detached, with a guard (biased, with the GIL)", "ns",
        "BM_EnsureGuardedFromDetached", None, "BM_FloorLoadBranch"),
    Row("state.new_delete", "Life of a thread state", "new + clear + delete", "ns", "BM_ThreadStateNewDelete",
        "BM_ThreadStateNewDelete", "BM_FloorCasXchg", target=AtMost(60), target_ft=AtMost(100)),
    Row("state.attach", "Life of a thread state", "and attach + detach", "ns", "BM_ThreadStateNewAttachDelete", None,
        "BM_FloorCasXchg"),
    Row("pending.idle", "Pending calls", "nothing to run", "ns", "BM_PendingCallsIdle", "BM_PendingCallsIdle",
        "BM_FloorLoadBranch", target=AtMost(1)),
    Row("pending.add_run", "Pending calls", "add one + run it", "ns", "BM_PendingCallsAddRun", "BM_PendingCallsAddRun",
        "BM_FloorCasXchg", target=AtMost(30)),
    # --- Contention ----------------------------------------------------------------------------------------------
    *_switch_rows(),
    Row("grant.asked", "Grant: the holder's drop to the waiter running", "waiter has asked (pyrt's spins)", "us",
        ("BM_Grant/asked:1", None), "BM_Grant/asked:1", "BM_FloorLinePingPong", metric="grant_p50_ns",
        target=AtMost(1), detail="grant"),
    Row("grant.parked", "Grant: the holder's drop to the waiter running", "waiter sleeps (parked)", "us",
        ("BM_Grant/asked:0", None), "BM_Grant/asked:0", "BM_FloorFutexWake/same_cpu:0", metric="grant_p50_ns",
        detail="grant"),
    *[
        row for busy in (1, 4) for row in (
            Row(f"reattach.interval.{busy}", "I/O thread re-attaches beside busy threads (interval 5 ms)",
                f"{busy} busy, interval policy, p50", "us", f"BM_Reattach/busy:{busy}/interactive:0",
                f"BM_Reattach/busy:{busy}", "BM_FloorLinePingPong", metric="reattach_p50_ns", detail="reattach"),
            Row(f"reattach.interactive.{busy}", "I/O thread re-attaches beside busy threads (interval 5 ms)",
                f"{busy} busy, interactive policy, p50", "us", (f"BM_Reattach/busy:{busy}/interactive:1", None),
                f"BM_Reattach/busy:{busy}", "BM_FloorLinePingPong", metric="reattach_p50_ns",
                target=AtMost(20) if busy == 1 else None, detail="reattach"),
            Row(f"reattach.interactive_p99.{busy}", "I/O thread re-attaches beside busy threads (interval 5 ms)",
                f"{busy} busy, interactive policy, p99", "us", (f"BM_Reattach/busy:{busy}/interactive:1", None),
                f"BM_Reattach/busy:{busy}", None, metric="reattach_p99_ns",
                target=AtMost(100) if busy == 1 else None),
            Row(f"reattach.kept.{busy}", "I/O thread re-attaches beside busy threads (interval 5 ms)",
                f"{busy} busy, interactive policy, throughput kept", "%",
                (f"BM_Reattach/busy:{busy}/interactive:1", f"BM_Reattach/busy:{busy}/interactive:0"),
                f"BM_Reattach/busy:{busy}", None, metric="kept", target=AtLeast(95), better="higher"),
        )
    ],
    *_stop_rows(),
    # --- Imports --------------------------------------------------------------------------------------------
    Row("import.lock", "Imports", "import lock, acquire + release", "ns", "BM_ImportLock", "BM_ImportLock",
        "BM_FloorCasStore", target=AtMost(3), target_ft=AtMost(9)),
    Row("import.reentry", "Imports", "import lock, re-entry", "ns", "BM_ImportLockReentry", "BM_ImportLockReentry",
        "BM_FloorLoadBranch", target=AtMost(1)),
    Row("import.module_lock", "Imports", "module lock, acquire + release", "ns", "BM_ModuleLock", "BM_ModuleLock",
        "BM_FloorMutexPair", target=AtMost(60), target_ft=AtMost(80)),
    Row("import.lookup", "Imports", "look a module up", "ns", "BM_ModuleLookup", "BM_ModuleLookup", "BM_FloorCasXchg",
        target=AtMost(10)),
    Row("import.cached", "Imports", "import of a module that is there", "ns", "BM_ImportCached", "BM_ImportCached",
        "BM_FloorCasXchg", target=AtMost(40)),
    Row("import.memory_module", "Memory", "a module and its place in the table, of 100 000", "B", "BM_ModuleMemory",
        "BM_ModuleMemory", metric="bytes_each"),
    Row("import.memory_lock", "Memory", "a module lock, acquired, of 10 000", "B", "BM_ModuleLockMemory",
        "BM_ModuleLockMemory", metric="bytes_each"),
    # --- sys -----------------------------------------------------------------------------------------------------
    Row("sys.attribute", "sys", "attribute by name", "ns", "BM_SysAttribute", "BM_SysAttribute", "BM_FloorCasXchg",
        target=AtMost(10)),
    Row("sys.attribute_constant", "sys", "attribute, the name a constant", "ns", "BM_SysAttributeConstant",
        "BM_SysAttribute", "BM_FloorCasXchg", target=AtMost(10)),
    Row("sys.audit", "sys", "audit with no hook", "ns", "BM_AuditNoHook", "BM_AuditNoHook", "BM_FloorEmptyLoop",
        target=AtMostOverFloor(0.5)),
    *_scaling_rows(),
]

# What the machine charges; shown below the table, so that the floors of the rows can be judged too.
FLOORS = [
    ("empty loop", "ns", "BM_FloorEmptyLoop", "cpu_time"),
    ("load + branch", "ns", "BM_FloorLoadBranch", "cpu_time"),
    ("bare TLS load (initial-exec)", "ns", "BM_FloorTlsLoad", "cpu_time"),
    ("uncontended CAS + store", "ns", "BM_FloorCasStore", "cpu_time"),
    ("uncontended CAS + exchange", "ns", "BM_FloorCasXchg", "cpu_time"),
    ("std::mutex lock + unlock", "ns", "BM_FloorMutexPair", "cpu_time"),
    ("clock_gettime", "ns", "BM_FloorClockGettime", "cpu_time"),
    ("cache line to a spinning thread, p50", "us", "BM_FloorLinePingPong", "latency_p50_ns"),
    ("futex wake to running, same CPU, p50", "us", "BM_FloorFutexWake/same_cpu:1", "latency_p50_ns"),
    ("futex wake to running, idle CPU, p50", "us", "BM_FloorFutexWake/same_cpu:0", "latency_p50_ns"),
    ("futex wake, what the waker pays, p50", "us", "BM_FloorFutexWake/same_cpu:0", "waker_p50_ns"),
    *((f"{busy} running thread{'s' * (busy > 1)} told to sleep by one word, p50", "us", f"BM_FloorSleepAll/busy:{busy}",
       "stop_p50_ns") for busy in (1, 2, 4, 8, 16)),
    ("membarrier, alone, p50", "us", "BM_FloorMembarrier/busy:0", "latency_p50_ns"),
    ("membarrier beside a running thread, p50", "us", "BM_FloorMembarrier/busy:1", "latency_p50_ns"),
    ("membarrier beside a running thread, p99", "us", "BM_FloorMembarrier/busy:1", "latency_p99_ns"),
]
