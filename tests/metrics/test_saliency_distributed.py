"""Every rank of a distributed run reports the scores of all images."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.parity.saliency_pairs import saliency_pairs
from wsss_zoo.metrics import MAE, EMeasure, FMeasure, SaliencyMetrics

RANKS = 2


def score(pairs):
    metrics = {name.__name__: name("ldf") for name in (SaliencyMetrics, MAE, FMeasure, EMeasure)}
    for metric in metrics.values():
        metric.update(*map(list, zip(*pairs, strict=True)))
    return {name: metric.compute() for name, metric in metrics.items()}


def one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.save(score(list(saliency_pairs().values())[rank::RANKS]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_report_the_single_process_result(tmp_path):
    mp.spawn(one_rank, args=(str(tmp_path),), nprocs=RANKS)
    expected = score(list(saliency_pairs().values()))
    assert int(expected["SaliencyMetrics"]["skipped"]) == 2
    for rank in range(RANKS):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-14)
