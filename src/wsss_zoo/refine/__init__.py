"""Label refinement without learning: background scores, dense CRF, pseudo labels for whole folders."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.refine.affinity_seeds import AffinitySeeds
    from wsss_zoo.refine.background import background_power, background_threshold, labels_from_scores
    from wsss_zoo.refine.confident_labels import ConfidentLabels
    from wsss_zoo.refine.crf_parameters import CRF_PARAMETERS, CrfParameters
    from wsss_zoo.refine.dense_crf import DenseCRF
    from wsss_zoo.refine.fickle_seeds import FickleSeeds
    from wsss_zoo.refine.folder import refine_folder
    from wsss_zoo.refine.mean_field import crf_marginals, unary_from_labels, unary_from_probabilities
    from wsss_zoo.refine.pixel_pairs import PixelPairs, affinity_matrix
    from wsss_zoo.refine.pseudo_labels import PseudoLabels
    from wsss_zoo.refine.random_walk import RandomWalk
    from wsss_zoo.refine.seed_cues import SeedCues
    from wsss_zoo.refine.subcategories import KMeansInClasses

_LOCATIONS = {
    "AffinitySeeds": "affinity_seeds",
    "CRF_PARAMETERS": "crf_parameters",
    "ConfidentLabels": "confident_labels",
    "CrfParameters": "crf_parameters",
    "DenseCRF": "dense_crf",
    "FickleSeeds": "fickle_seeds",
    "KMeansInClasses": "subcategories",
    "PixelPairs": "pixel_pairs",
    "PseudoLabels": "pseudo_labels",
    "RandomWalk": "random_walk",
    "SeedCues": "seed_cues",
    "affinity_matrix": "pixel_pairs",
    "background_power": "background",
    "background_threshold": "background",
    "crf_marginals": "mean_field",
    "labels_from_scores": "background",
    "refine_folder": "folder",
    "unary_from_labels": "mean_field",
    "unary_from_probabilities": "mean_field",
}

__all__ = [
    "CRF_PARAMETERS",
    "AffinitySeeds",
    "ConfidentLabels",
    "CrfParameters",
    "DenseCRF",
    "FickleSeeds",
    "KMeansInClasses",
    "PixelPairs",
    "PseudoLabels",
    "RandomWalk",
    "SeedCues",
    "affinity_matrix",
    "background_power",
    "background_threshold",
    "crf_marginals",
    "labels_from_scores",
    "refine_folder",
    "unary_from_labels",
    "unary_from_probabilities",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.refine.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.refine' has no attribute '{name}'")
