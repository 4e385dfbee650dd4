"""Seconds and memory of a step."""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Measure a block; the yielded dict is filled when it ends.

    Keys: `started` (ISO time, UTC), `seconds`, `peak_memory_mb` (the largest resident size of this process so
    far), `peak_gpu_memory_mb` (where CUDA is used), `host`.
    """
    facts: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()  # type: ignore[union-attr]
    begin = time.perf_counter()
    try:
        yield facts
    finally:
        facts["seconds"] = round(time.perf_counter() - begin, 2)
        unit = 1024**2 if sys.platform == "darwin" else 1024
        facts["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
        if on_gpu:
            facts["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1024**2)  # type: ignore[union-attr]
