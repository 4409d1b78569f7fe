"""The text: Python's own documentation, the topics that `help()` shows, as characters and as words."""

from __future__ import annotations

import collections
import functools
import platform
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.datasets import SPLIT_SEED, kept


class Corpus(NamedTuple):
    """tokens: training text, validation text, test text; each token is its rank by frequency, 0 the most frequent.

    ends: where the three end. The text is cut into blocks in a fixed random order, so that the parts are alike.
    """

    tokens: NDArray[np.int64]
    ends: tuple[int, int, int]

    def limited(self, vocabulary: int) -> NDArray[np.int64]:
        """The tokens with the rarer ones as one token, unknown: vocabulary - 1."""
        return np.minimum(self.tokens, vocabulary - 1)


def characters() -> Corpus:
    """About 100 different ones, the 63 most frequent being 99.4% of the text."""
    return _cut("characters", 1000, (320_000, 360_000, 400_000))


def words() -> Corpus:
    """Words in lower case, numbers and single signs: some 3,000, the 249 most frequent being 80% of the text."""
    return _cut("words", 250, (80_000, 90_000, 100_000))


@functools.cache
def _cut(kind: str, block: int, ends: tuple[int, int, int]) -> Corpus:
    ranks = _ranks()[kind].astype(np.int64)[: ends[-1]].reshape(-1, block)
    return Corpus(ranks[np.random.default_rng(SPLIT_SEED).permutation(len(ranks))].reshape(-1), ends)


def _ranks() -> dict[str, NDArray[Any]]:
    def make() -> dict[str, NDArray[Any]]:
        text = _text()
        return {
            "characters": _by_frequency(text),
            "words": _by_frequency(re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", text.lower())),
        }

    return kept(f"python-topics-{platform.python_version()}", make)


def _text() -> str:
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    # Rules and boxes drawn with characters, and indentation, say nothing about language.
    return re.sub(r"\s+", " ", re.sub(r"(\W)\1{2,}", r"\1", text))


def _by_frequency(tokens: Iterable[str]) -> NDArray[np.uint16]:
    tokens = list(tokens)
    counts = collections.Counter(tokens)
    rank = {token: i for i, token in enumerate(sorted(counts, key=lambda token: (-counts[token], token)))}
    return np.array([rank[token] for token in tokens], dtype=np.uint16)
