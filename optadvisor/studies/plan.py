"""How a budget of trials is shared among rules: successive halving, fixed by the values seen so far; or equally.

Every rule gets the same number of trials in a round; the better half goes on; the last rule standing spends the last
round alone. After Jamieson & Talwalkar 2016, Non-stochastic Best Arm Identification, with rules as arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

HALVING, EQUAL = "halving", "equal"
WAVE = 8  # trials of one rule that are asked for before any of them is told


def waves(
    trials: int, rules: Sequence[str], best: Callable[[str], float], size: int = WAVE, how: str = HALVING
) -> Iterator[list[tuple[str, int]]]:
    """Batches of (rule, number of trials) that add up to `trials`.

    rules: in the order of the advice, which settles ties. best(rule): the best value so far, asked between rounds.
    size: trials of one rule in a batch at most. how: HALVING, or EQUAL shares for all to the end.
    """
    alive = list(rules[:trials])
    rounds = math.ceil(math.log2(len(alive))) + 1 if alive else 0
    if how == EQUAL:
        rounds = min(rounds, 1)
    left = trials
    for remaining in range(rounds, 0, -1):
        # A short budget still tries every rule once: fewer rounds, not unseen rules.
        budget = left if remaining == 1 else max(left // remaining, min(len(alive), left))
        left -= budget
        shares = {rule: budget // len(alive) + (i < budget % len(alive)) for i, rule in enumerate(alive)}
        while any(shares.values()):
            wave = [(rule, min(size, share)) for rule, share in shares.items() if share]
            for rule, count in wave:
                shares[rule] -= count
            yield wave
        alive = sorted(alive, key=best)[: math.ceil(len(alive) / 2)]
