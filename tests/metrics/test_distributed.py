"""Every rank of a distributed run reports what a single process would."""

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.metrics.per_threshold import random_items
from wsss_zoo.metrics import MeanIoU, ThresholdSweep

RANKS = 2


def count(items):
    mean_iou, sweep = MeanIoU(6), ThresholdSweep(5, fixed_threshold=0.33)
    for maps, classes, target in items:
        sweep.update(maps, classes, target)
        mean_iou.update(
            torch.from_numpy(np.where(target == 255, 0, (target + 1) % 6)), torch.from_numpy(target)
        )
    return {"mean_iou": mean_iou.compute(), "sweep": sweep.compute()}


def one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    items = random_items(np.random.default_rng(0), 7, 5)
    torch.save(count(items[rank::RANKS]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_report_the_single_process_result(tmp_path):
    mp.spawn(one_rank, args=(str(tmp_path),), nprocs=RANKS)
    expected = count(random_items(np.random.default_rng(0), 7, 5))
    for rank in range(RANKS):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
