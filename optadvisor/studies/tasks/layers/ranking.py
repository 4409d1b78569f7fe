"""How well scores order two classes."""

from __future__ import annotations

import numpy as np


def area_under_curve(scores, labels):
    """The share of (positive, negative) pairs in which the positive has the higher score, ties counting half (AUC).

    scores, labels: 1-d; a label above 0.5 is positive. By ranks (Mann & Whitney 1947), so in O(n log n); allocates.
    nan where one class is missing.
    """
    order = np.argsort(scores)
    n, positives, total, first = scores.size, 0, 0.0, 0
    while first < n:
        last, tied = first + 1, int(labels[order[first]] > 0.5)
        while last < n and scores[order[last]] == scores[order[first]]:
            tied += int(labels[order[last]] > 0.5)
            last += 1
        positives += tied
        total += tied * 0.5 * (first + last - 1)  # the ties' mean rank, from 0
        first = last
    return (total - positives * (positives - 1) / 2) / (positives * (n - positives))
