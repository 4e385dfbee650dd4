"""Errors that a person can mend: each names the file or key, what was expected and what to do.

The command line prints the message alone (no traceback) and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WsssZooError(Exception):
    """Base of every error raised for input that a person can correct."""


class RecipeError(WsssZooError):
    """A recipe, an override or a run folder that cannot be used as given."""


class DataError(WsssZooError):
    """A data set folder, list, image, mask or label that cannot be used as given."""


class ArtifactError(WsssZooError):
    """A file handed from stage to stage that is missing, broken or could not be written."""


class WeightsError(WsssZooError):
    """Weights that cannot be read or do not belong to the network."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Tell which of `choices` was probably meant by `name`.

    Returns:
        ``"did you mean 'x'?"`` where a choice is close, otherwise the sorted list of choices;
        an empty string when there are no choices.
    """
    options = sorted(set(choices))
    if not options:
        return ""
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "choose from: " + ", ".join(options)
