"""Refiners that misbehave, importable by spawned processes."""

import os
import time

import numpy as np


def threshold_half(image, maps):
    return (maps.full_size()[0] > 0.5).astype(np.uint8)


def fail_on_dark_images(image, maps):
    if image.max() == 0:
        raise RuntimeError("too dark")
    return threshold_half(image, maps)


def die_on_dark_images(image, maps):
    if image.max() == 0:
        time.sleep(0.3)
        os._exit(9)
    return threshold_half(image, maps)


def slow(image, maps):
    time.sleep(0.1)
    return threshold_half(image, maps)


def thread_limit(image, maps):
    return np.full(maps.size, int(os.environ["OMP_NUM_THREADS"]), np.uint8)
