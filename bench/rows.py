"""The rows of the comparison. To add a measurement, add a Row here; nothing else has to change.

A row names, for each side, a benchmark and which of its figures to read. "cpu_time", the default, is for loops on one
thread: the CPU time of an iteration, which a busy machine does not stretch. Contended threads report counters;
those that end in _ns are nanoseconds. A side that is None shows "-"; a side whose program lacks the benchmark
shows why. `pyrt` may be one name, or a pair (GIL enabled, GIL disabled) where the two builds differ.

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
    # --- Import locks --------------------------------------------------------------------------------------------
    Row("import.lock", "Imports", "import lock, acquire + release", "ns", "BM_ImportLock", "BM_ImportLock",
        "BM_FloorCasStore", target=AtMost(3), target_ft=AtMost(9)),
    Row("import.reentry", "Imports", "import lock, re-entry", "ns", "BM_ImportLockReentry", "BM_ImportLockReentry",
        "BM_FloorLoadBranch", target=AtMost(1)),
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
    ("membarrier, alone, p50", "us", "BM_FloorMembarrier/busy:0", "latency_p50_ns"),
    ("membarrier beside a running thread, p50", "us", "BM_FloorMembarrier/busy:1", "latency_p50_ns"),
    ("membarrier beside a running thread, p99", "us", "BM_FloorMembarrier/busy:1", "latency_p99_ns"),
]
