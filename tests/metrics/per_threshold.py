"""The protocol itself, once per threshold: what ThresholdSweep must equal."""

import numpy as np


def confusion_per_threshold(items, thresholds, num_classes):
    """Confusion matrices `(T, C + 1, C + 1)` of a list of (maps, classes, target)."""
    confusion = np.zeros((len(thresholds), num_classes + 1, num_classes + 1), np.int64)
    for maps, classes, target in items:
        for index, threshold in enumerate(thresholds):
            stack = np.zeros((num_classes + 1, *target.shape), np.float32)
            for plane, class_index in zip(maps, classes, strict=True):
                stack[class_index + 1] = plane
            stack[0] = threshold
            predicted = stack.argmax(axis=0)
            valid = target != 255
            np.add.at(confusion[index], (target[valid], predicted[valid]), 1)
    return confusion


def official_iou(confusion):
    """TP / (T + P - TP + 1e-10), as the published script divides."""
    hit = confusion.diagonal(axis1=-2, axis2=-1)
    return hit / (confusion.sum(-1) + confusion.sum(-2) - hit + 1e-10)


def random_items(rng, count, num_classes, size=(9, 11), steps=None):
    """Images with 0 to 3 classes; values on a coarse grid of `steps` so that ties are common."""
    items = []
    for _ in range(count):
        classes = np.sort(rng.choice(num_classes, size=rng.integers(0, 4), replace=False))
        maps = rng.random((len(classes), *size), dtype=np.float32)
        if steps:
            maps = (np.round(maps * steps) / steps).astype(np.float32)
        target = rng.choice([0, *(classes + 1), rng.integers(num_classes + 1), 255], size=size)
        items.append((maps, classes, target.astype(np.uint8)))
    return items
