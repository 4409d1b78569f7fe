"""The text of the language tasks: real, the same in every process, its parts apart and alike."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.studies.tasks.language import corpus, ngram, recurrent, transformer
from optadvisor.studies.tasks.language.corpus import Corpus

TEXTS = {"characters": corpus.characters, "words": corpus.words}


@pytest.mark.parametrize("kind", TEXTS)
def test_tokens_are_ranks_by_frequency(kind: str):
    text = TEXTS[kind]()
    assert len(text.tokens) == text.ends[-1]
    counts = np.bincount(text.tokens)
    # Of the whole text, of which the last few blocks are left out.
    assert (counts[:20] >= 0.9 * counts[1:21]).all()
    assert counts[0] > 20 * np.median(counts[counts > 0]), "heavy-tailed"


def test_the_most_frequent_tokens_cover_what_is_said():
    assert np.mean(corpus.characters().tokens < 63) == pytest.approx(0.994, abs=0.004)
    assert np.mean(corpus.words().tokens < 249) == pytest.approx(0.80, abs=0.03)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_parts_are_alike(kind: str):
    text = TEXTS[kind]()
    training, validation, test = (np.bincount(part, minlength=50)[:50] / part.size for part in parts(text))
    assert np.abs(training - validation).sum() < 0.15
    assert np.abs(training - test).sum() < 0.15


def parts(text: Corpus) -> list[np.ndarray]:
    return np.split(text.tokens, text.ends[:2])


def test_rarer_tokens_are_one():
    text = corpus.words()
    limited = text.limited(250)
    assert limited.max() == 249
    np.testing.assert_array_equal(limited[text.tokens < 249], text.tokens[text.tokens < 249])


def test_a_torn_cache_of_the_text_gives_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path):
    before = corpus.words().tokens
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    corpus._cut.cache_clear()
    np.testing.assert_array_equal(corpus.words().tokens, before)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    corpus._cut.cache_clear()
    np.testing.assert_array_equal(corpus.words().tokens, before)


def test_no_window_leaves_its_part():
    """The last one of the largest training set and of the longest evaluation, with the token that follows it."""
    for family in (*ngram.FAMILIES, *recurrent.FAMILIES, *transformer.FAMILIES):
        text = corpus.words() if "vocabulary" in family.axes else corpus.characters()
        most = {name: max(axis.choices) for name, axis in family.axes.items()}
        module = {"ngram": ngram, "rnn": recurrent, "gru": recurrent, "transformer": transformer}
        owner = module[family.name.split("-")[1]]
        stride, length = getattr(owner, "STRIDE", 1), most.get("length", most.get("context"))
        assert (most["samples"] - 1) * stride + length < text.ends[0], family.name
        assert owner.EVALUATED + length < min(np.diff(text.ends)), family.name
