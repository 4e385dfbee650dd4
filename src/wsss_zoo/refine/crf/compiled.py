"""How kernels of the CPU engine are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call and keep the machine code on disk.

    The code lies beside the source or, where that is read-only, in the user's cache folder
    (`NUMBA_CACHE_DIR` overrides both). It is made anew when the file of the function changes, not when one
    that it uses does. Compiled functions release the GIL: images are shared among threads.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        # numba's answer where no folder at all can be written, as in a read-only container without a home
        if "no locator available" not in str(error):
            raise
        return njit(**options)(function)
