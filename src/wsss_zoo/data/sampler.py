"""Which image comes when, and with which random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Seed for augmenting image `index` in `epoch`: 64 bits, well mixed, a function of the three alone."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0])


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Shuffled indices, each with the seed of its augmentation.

    Yields `(index, sample seed)`. Order and seeds are functions of (seed, epoch) alone, so that results do
    not depend on the number of worker processes, and a run continued at the start of an epoch sees what it
    would have seen without the stop. Lightning calls `set_epoch` and, because this is a
    `DistributedSampler`, does not wrap it in another; the replicas share the images without overlap.

    Args:
        dataset: anything with a length.
        num_replicas: processes that train together.
        rank: which of them this is, from 0.
        seed: of the run; not negative.
        drop_last: leave out up to `num_replicas - 1` images an epoch so that all have the same number;
            otherwise some images come twice.
    """

    def __init__(
        self,
        dataset: Dataset[object] | Sized,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        drop_last: bool = True,
    ) -> None:
        super().__init__(
            dataset,  # type: ignore[arg-type]  # only its length is used
            num_replicas=num_replicas,
            rank=rank,
            shuffle=True,
            seed=seed,
            drop_last=drop_last,
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield `(index, sample seed)` of the current epoch."""
        for index in super().__iter__():
            yield int(index), sample_seed(self.seed, self.epoch, int(index))  # type: ignore[call-overload]
