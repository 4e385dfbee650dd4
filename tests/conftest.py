"""Settings for the whole suite."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

# tiny networks are faster on one thread
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# no time limits: a busy machine must not fail a test
settings.register_profile(
    "suite", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
