"""Which of the processes that train together this is."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only


def is_first_rank() -> bool:
    """Whether this is the first process (or the only one), as Lightning reads it from the launcher."""
    return bool(rank_zero_only(lambda: True)())
