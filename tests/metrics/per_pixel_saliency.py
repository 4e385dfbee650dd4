"""Scores of saliency maps the slow way: one pass over the pixels for each threshold and each part."""

from __future__ import annotations

import numpy as np

EPS = np.finfo(np.float64).eps


def stretch(levels):
    values = levels / 255
    low, high = values.min(), values.max()
    return values if low == high else (values - low) / (high - low)


def f_score(selected, mask):
    hit = np.count_nonzero(selected & mask)
    if hit == 0:
        return 0.0
    precision, recall = hit / np.count_nonzero(selected), hit / np.count_nonzero(mask)
    return 1.3 * precision * recall / (0.3 * precision + recall)


def e_score(selected, mask):
    total = mask.size
    if not mask.any():
        enhanced = ~selected
    elif mask.all():
        enhanced = selected
    else:
        x, y = selected - selected.mean(), mask - mask.mean()
        enhanced = (1 + 2 * x * y / (x**2 + y**2 + EPS)) ** 2 / 4
    return enhanced.sum() / (total - 1 + EPS)


def s_score(values, mask):
    if not mask.any():
        return 1 - values.mean()
    if mask.all():
        return values.mean()

    def evenness(part):
        spread = part.std(ddof=1) if part.size > 1 else 0.0
        return 2 * part.mean() / (part.mean() ** 2 + 1 + spread + EPS)

    share = mask.mean()
    objects = share * evenness(values[mask]) + (1 - share) * evenness(1 - values[~mask])
    row, column = (int(np.round(places.mean())) + 1 for places in np.nonzero(mask))
    regions = 0.0
    for rows in (slice(0, row), slice(row, None)):
        for columns in (slice(0, column), slice(column, None)):
            x, y = values[rows, columns], mask[rows, columns]
            if x.size == 0:
                continue
            if x.min() == x.max() and y.min() == y.max():
                similarity = 1.0
            else:
                dx, dy, divisor = x - x.mean(), y - y.mean(), x.size - 1 + EPS
                u = 4 * x.mean() * y.mean() * (dx * dy).sum() / divisor
                v = (x.mean() ** 2 + y.mean() ** 2) * ((dx**2).sum() + (dy**2).sum()) / divisor
                similarity = u / (v + EPS)
            regions += similarity * x.size / mask.size
    return max(0.0, 0.5 * objects + 0.5 * regions)


def weighted_f_score(values, mask):
    if not mask.any():
        return 0.0
    height, width = mask.shape
    error = abs(values - mask)
    # nearest object pixel; of several, that in the leftmost column and then in the topmost row
    candidates = sorted(zip(*np.nonzero(mask), strict=True), key=lambda pixel: (pixel[1], pixel[0]))
    rows, columns = (np.array(part)[:, None, None] for part in zip(*candidates, strict=True))
    y, x = np.mgrid[:height, :width]
    squares = (y - rows) ** 2 + (x - columns) ** 2
    first = squares.argmin(0)
    nearest = error[rows.ravel()[first], columns.ravel()[first]]
    padded = np.pad(np.where(mask, error, nearest), 3)
    gauss = np.exp(-(np.arange(-3, 4)[:, None] ** 2 + np.arange(-3, 4) ** 2) / 50)
    gauss /= gauss.sum()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    smooth = (windows * gauss).sum((2, 3))
    error = np.where(mask & (smooth < error), smooth, error)
    error = error * np.where(mask, 1, 2 - np.exp(np.log(0.5) / 5 * np.sqrt(squares.min(0))))
    hit = mask.sum() - error[mask].sum()
    recall = 1 - error[mask].mean()
    precision = hit / (hit + error[~mask].sum() + EPS)
    return 2 * recall * precision / (recall + precision + EPS)


def all_scores(levels, mask):
    values = stretch(levels)
    cut = (255 * values).astype(int)
    selections = [cut >= threshold for threshold in range(255, -1, -1)]
    adaptive = values >= min(2 * values.mean(), 1)
    return {
        "mae": abs(values - mask).mean(),
        "adp_f": f_score(adaptive, mask),
        "f": np.array([f_score(selected, mask) for selected in selections]),
        "adp_e": e_score(adaptive, mask),
        "adp_e_strict": e_score(values > 2 * values.mean(), mask),
        "e": np.array([e_score(selected, mask) for selected in selections]),
        "s": s_score(values, mask),
        "wf": weighted_f_score(values, mask),
    }
