"""What a reader must know of the machine and the tree to judge the figures, and how quiet the machine was."""

import datetime
import os
import pathlib
import platform
import resource
import subprocess

# Above this many CPUs' worth of foreign work a run is called noisy.
NOISY_LOAD = 0.5
NOISY_OTHERS = 0.15


def _read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _cpu_model():
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.lower().startswith(("model name", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(directory, *arguments):
    try:
        done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit():
    directory = os.environ.get("BUILD_WORKSPACE_DIRECTORY") or os.path.dirname(os.path.realpath(__file__))
    head = _git(directory, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    return head + (" + local changes" if _git(directory, "status", "--porcelain") else "")


def context():
    flags = _read("/proc/cpuinfo") or ""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "host_name": platform.node(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "load_avg": list(os.getloadavg()),
        "commit": commit(),
        "cpu": _cpu_model(),
        "virtual_machine": " hypervisor" in flags,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none (no cpufreq)",
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
    }


class QuietMeter:
    """How much CPU others used while we measured: /proc/stat's busy and stolen time less our children's."""

    def __init__(self):
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._start = self._now()

    def _now(self):
        fields = [int(x) for x in (_read("/proc/stat") or "cpu 0").splitlines()[0].split()[1:]]
        fields += [0] * (8 - len(fields))
        user, nice, system, idle, iowait, irq, softirq, steal = fields[:8]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        ours = used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime
        busy = (user + nice + system + irq + softirq) / self._ticks
        total = (user + nice + system + idle + iowait + irq + softirq + steal) / self._ticks
        return busy, steal / self._ticks, total / max(1, os.cpu_count() or 1), ours

    def others(self):
        """(CPUs that other processes used, CPUs that the hypervisor took away), on average since the start."""
        busy, steal, wall, ours = (now - then for now, then in zip(self._now(), self._start))
        if wall <= 0:
            return 0.0, 0.0
        return max(0.0, (busy - ours) / wall), steal / wall


def noise_notes(load_before, others, stolen):
    notes = []
    if load_before > NOISY_LOAD:
        notes.append(f"noisy: the load average was {load_before:.2f} at the start; "
                     "something else was running, take the figures as indicative")
    if others > NOISY_OTHERS:
        notes.append(f"noisy: other processes used {others:.2f} CPUs during the run; run again on a quiet machine")
    if stolen > 0.02:
        notes.append(f"noisy: the hypervisor took {stolen:.2f} CPUs away during the run")
    return notes
