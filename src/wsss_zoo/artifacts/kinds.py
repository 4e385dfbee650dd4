"""The kinds of artifacts: the folder of a stage that holds them, their file name extension, their content."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from wsss_zoo.artifacts.differences import Differences
from wsss_zoo.artifacts.features import load_features, save_features
from wsss_zoo.artifacts.label_scores import LabelScores
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import load_mask, save_mask
from wsss_zoo.artifacts.saliency import load_saliency, save_saliency
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.artifacts.subcategories import Subcategories
from wsss_zoo.errors import ArtifactError, suggest

Content = Literal[
    "localization maps",
    "label scores",
    "masks",
    "grey maps",
    "features",
    "sub-categories",
    "seeds",
    "differences",
]


class ArtifactKind(NamedTuple):
    """One kind of artifact.

    Attributes:
        content: what a file holds; kinds of the same content can stand for one another.
        extension: of the files, one an image.
    """

    content: Content
    extension: str


#: Folder in a stage -> what lies there.
ARTIFACT_KINDS: dict[str, ArtifactKind] = {
    "maps": ArtifactKind("localization maps", ".npz"),
    "maps_max": ArtifactKind("localization maps", ".npz"),
    "masks": ArtifactKind("masks", ".png"),
    "masks_crf": ArtifactKind("masks", ".png"),
    "scores": ArtifactKind("label scores", ".npz"),
    "scores_low": ArtifactKind("label scores", ".npz"),
    "scores_high": ArtifactKind("label scores", ".npz"),
    "saliency": ArtifactKind("grey maps", ".png"),
    "body": ArtifactKind("grey maps", ".png"),
    "detail": ArtifactKind("grey maps", ".png"),
    "features": ArtifactKind("features", ".npz"),
    "subcategories": ArtifactKind("sub-categories", ".npz"),
    "seeds": ArtifactKind("seeds", ".npz"),
    "differences": ArtifactKind("differences", ".npz"),
}

#: What a step reads under a name (`inputs: {role: stage}`) -> content. Roles that are not listed here are
#: those of a user's own class; they may read any kind, which must then be named (`stage.kind`).
ROLES: dict[str, Content] = {
    **{kind: item.content for kind, item in ARTIFACT_KINDS.items()},
    "before": "masks",
    "after": "masks",
}

#: Roles for which no other kind of the same content stands in: an average is not a maximum.
OF_ONE_KIND = ("maps_max",)

#: Contents that have a class of their own.
_CLASSES: dict[
    Content,
    type[LocalizationMaps] | type[LabelScores] | type[Subcategories] | type[Seeds] | type[Differences],
] = {
    "localization maps": LocalizationMaps,
    "label scores": LabelScores,
    "sub-categories": Subcategories,
    "seeds": Seeds,
    "differences": Differences,
}


def load_artifact(content: Content, path: str | os.PathLike[str]) -> Any:
    """Read one artifact.

    Returns:
        `LocalizationMaps`, `LabelScores`, a mask uint8 `(H, W)`, a grey map float32 `(H, W)` in [0, 1], a
        feature vector float32 `(D,)`, `Subcategories`, `Seeds`, or `Differences`.

    Raises:
        ArtifactError: the file is missing, broken or holds something else.
    """
    readers: dict[Content, Callable[[str | os.PathLike[str]], Any]] = {
        "localization maps": LocalizationMaps.load,
        "label scores": LabelScores.load,
        "masks": load_mask,
        "grey maps": load_saliency,
        "features": load_features,
        "sub-categories": Subcategories.load,
        "seeds": Seeds.load,
        "differences": Differences.load,
    }
    return readers[content](path)


def save_artifact(kind: str, path: str | os.PathLike[str], value: Any) -> None:
    """Write one artifact of a kind, atomically.

    Raises:
        ArtifactError: there is no such kind, the value is none of it, or the file could not be written.
    """
    if kind not in ARTIFACT_KINDS:
        raise ArtifactError(f"there is no artifact {kind!r}; {suggest(kind, ARTIFACT_KINDS)}")
    content = ARTIFACT_KINDS[kind].content
    if content in _CLASSES:
        expected = _CLASSES[content]
        if not isinstance(value, expected):
            raise ArtifactError(f"{path}: expected {expected.__name__}, got {type(value).__name__}.")
        value.save(path)
    elif content == "masks":
        save_mask(path, value)
    elif content == "features":
        save_features(path, value)
    else:
        save_saliency(path, value)
