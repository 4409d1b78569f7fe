"""How likely each optimizer is within noise of the best: base rates, moved by a regression on the profile.

Pure Python, without NumPy: `recommend` starts in a fraction of a second. advisor/learning/classifiers.py fits it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from optadvisor.advisor import features
from optadvisor.kernels.errors import InputError
from optadvisor.profile import TaskProfile

TRIALS = 4  # where the trials are unknown: the profile is worth little after many, and few people make only one
REACH = 3.0  # standard deviations of the studied tasks: what lies farther out is taken for the border
LEAST = 0.01  # no chance is nearer to 0 or 1


@dataclass(frozen=True)
class Classifier:
    """The chances of `rules` after each of `budgets` trials.

    base: of each budget and rule, the share of studied tasks on which the rule is within noise of the best. weights: of
    each budget and rule, by how much the chance moves for each feature, in standard deviations (spread) from the mean
    (centre); all 0 at a budget where nothing is known beyond the base rates.
    """

    rules: tuple[str, ...]
    budgets: tuple[int, ...]
    base: list[list[float]]
    centre: list[float]
    spread: list[float]
    weights: list[list[list[float]]]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Sequence[float]]) -> Classifier:
        """The classifier of the flat arrays that `learning.classifiers.fit` returns, as lists or as they are.

        Errors: InputError where it was fitted to other features than those of a profile today.
        """
        rules, names = json.loads(bytes(int(value) for value in arrays["names"]))
        if names != list(features.NAMES):
            raise InputError("the classifier was fitted to other features of a task: fit it again")
        weights = _rows(arrays["weights"], len(names))
        return cls(
            tuple(rules),
            tuple(int(budget) for budget in arrays["budgets"]),
            _rows(arrays["base"], len(rules)),
            [float(value) for value in arrays["centre"]],
            [float(value) for value in arrays["spread"]],
            [weights[i : i + len(rules)] for i in range(0, len(weights), len(rules))],
        )

    def probabilities(self, profile: TaskProfile, trials: int | None = None) -> dict[str, float]:
        """Rule -> chance to be within noise of the best after `trials` trainings of each rule (unknown: TRIALS).

        Between the budgets that were studied the nearest in ratio counts.
        """
        budget = self._budget(trials or TRIALS)
        z = [
            min(max((value - centre) / spread, -REACH), REACH)
            for value, centre, spread in zip(features.vector(profile), self.centre, self.spread, strict=True)
        ]
        return {
            rule: min(max(base + math.fsum(map(mul, weights, z)), LEAST), 1 - LEAST)
            for rule, base, weights in zip(self.rules, self.base[budget], self.weights[budget], strict=True)
        }

    def _budget(self, trials: int) -> int:
        return min(range(len(self.budgets)), key=lambda i: abs(math.log(self.budgets[i] / trials)))


def _rows(values: Sequence[float], width: int) -> list[list[float]]:
    flat = [float(value) for value in values]
    return [flat[i : i + width] for i in range(0, len(flat), width)]
