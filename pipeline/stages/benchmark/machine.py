"""Description of this machine, on which timings depend, and the load of other programs on it."""

import platform
import re
import resource
import time
from importlib.metadata import version
from pathlib import Path

from pipeline.core.records import Machine

MB = 1024 * 1024


def this_machine() -> Machine:
    """Return the hardware and the versions on which timings depend."""
    import psutil
    import torch

    features = torch.cpu.get_capabilities()
    shown = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    packages = ("torch", "transformers", "onnxruntime-gpu", "onnx", "tokenizers", "numpy")
    return Machine(
        processor=str(features.get("cpu_name") or platform.processor()),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        features=[name for name in shown if features.get(name)],
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions={name: version(name) for name in packages},
    )


def peak_memory_mb() -> float:
    """Return the peak memory of this process since its program began. `getrusage` would include the
    memory of its parent at the fork (proc_pid_status(5), getrusage(2))."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert kilobytes
    return int(kilobytes[1]) * 1024 / MB


class Others:
    """Meter of the processor time of other processes since its creation."""

    def __init__(self) -> None:
        self.started, self.busy, self.own = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        """Return their share of all processor time, 0 to 1. Child processes must have ended."""
        import psutil

        spent = (time.perf_counter() - self.started) * (psutil.cpu_count() or 1)
        return max(0.0, (_busy() - self.busy - (_own() - self.own)) / spent)


def _busy() -> float:
    """Return the busy seconds of all processors, for all processes (proc_stat(5))."""
    import psutil

    times = psutil.cpu_times()._asdict()
    waiting = ("idle", "iowait", "guest", "guest_nice")  # guests are in `user` already
    return float(sum(seconds for name, seconds in times.items() if name not in waiting))


def _own() -> float:
    """Return the processor seconds of this process and the child processes that have ended."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
