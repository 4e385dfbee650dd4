"""K-means on the GPU: all runs go through their iterations together, as one matrix product each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

#: An iteration that moves the centres by less than this part of the variance ends a run (as in scikit-learn).
_TOLERANCE = 1e-4
#: Entries of the largest matrix of distances that is formed at once.
_LARGEST_BLOCK = 2**27


def kmeans(
    rows: npt.NDArray[np.float32], k: int, n_init: int = 10, seed: int = 0, max_iter: int = 300
) -> npt.NDArray[np.int64]:
    """Lloyd's iterations from the starts that scikit-learn's `KMeans` draws; the run of least inertia wins.

    Iterations, stopping rule and what is done with empty clusters are those of scikit-learn, too, so that
    results agree up to rounding.

    Args:
        rows: `(n, D)` with at least `k` different ones.
        k: clusters.
        n_init: runs from different starts.
        seed: fixes the k-means++ starts, which are drawn on the CPU.
        max_iter: most iterations.

    Returns:
        int64 `(n,)`: clusters in 0..k-1.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # far from the origin, |x|^2 - 2xc + |c|^2 would cancel
    centred = np.asarray(rows, dtype=np.float32) - rows.mean(0, dtype=np.float32)
    draws = np.random.RandomState(seed)  # scikit-learn draws from one of this kind
    starts = np.stack([kmeans_plusplus(centred, k, random_state=draws)[0] for _ in range(n_init)])
    data, centres = torch.from_numpy(centred).to(device), torch.from_numpy(starts).to(device)
    limit = _TOLERANCE * float(data.var(0, unbiased=False).mean())
    running = torch.ones(n_init, dtype=torch.bool)
    for _ in range(max_iter):
        active = torch.nonzero(running).flatten().to(device)
        moved = _means(data, centres[active])
        shift = (moved - centres[active]).square().sum((1, 2))
        centres[active] = moved
        running[active.cpu()] = (shift > limit).cpu()
        if not running.any():
            break
    squares, clusters = _nearest(data, centres)
    return clusters[squares.sum(1).argmin()].cpu().numpy()


def _means(data: Tensor, centres: Tensor) -> Tensor:
    """New centres `(R, k, D)`: means of the rows that are nearest to the old ones.

    A centre without rows moves to the row that is farthest from its own centre, the next to the second
    farthest, and so on (as in scikit-learn).
    """
    runs, k, _ = centres.shape
    squares, clusters = _nearest(data, centres)
    moved = torch.empty_like(centres)
    for run in range(runs):
        counts = torch.bincount(clusters[run], minlength=k)
        empty = torch.nonzero(counts == 0).flatten()
        if len(empty):
            clusters[run, squares[run].topk(len(empty)).indices] = empty
            counts = torch.bincount(clusters[run], minlength=k)
        sums = torch.zeros_like(centres[run]).index_add_(0, clusters[run], data)
        # moving the only row of another cluster away empties that one: it keeps its centre
        moved[run] = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres[run])
    return moved


def _nearest(data: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """For every run the squared distance `(R, n)` to the nearest centre, and which it is `(R, n)`."""
    runs, k, _ = centres.shape
    squares, clusters = [], []
    for block in data.split(max(1, _LARGEST_BLOCK // (runs * k))):
        distances = _squares(block, centres.flatten(0, 1)).unflatten(1, (runs, k))
        least, nearest = distances.min(2)
        squares.append(least.T)
        clusters.append(nearest.T)
    return torch.cat(squares, 1), torch.cat(clusters, 1)


def _squares(data: Tensor, points: Tensor) -> Tensor:
    """Squared distances `(n, m)`, never below 0."""
    products = data @ points.T
    return (data.square().sum(1)[:, None] - 2 * products + points.square().sum(1)[None]).clamp_(min=0)
