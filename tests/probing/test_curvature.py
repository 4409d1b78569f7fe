"""Curvature and sharpness of quadratics, whose Hessians are known."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.probing import curvature as curving
from optadvisor.probing.curvature import Hessian
from optadvisor.probing.subject import Block
from tests.probing.analytic import Quadratic, rotated


def hessian_of(subject: Quadratic) -> Hessian:
    return Hessian(lambda w: subject.gradient(w, 0)[1].astype(np.float64), subject.start())


def test_a_product_is_the_hessian_s():
    rng = np.random.default_rng(0)
    h = rotated(np.linspace(-1, 5, 20))
    direction = rng.standard_normal(20)
    direction /= np.linalg.norm(direction)
    found = hessian_of(Quadratic(h)).product(direction)
    np.testing.assert_allclose(found, h @ direction, atol=2e-4)
    part = direction[5:9] / np.linalg.norm(direction[5:9])
    found = hessian_of(Quadratic(h)).product(part, slice(5, 9))
    np.testing.assert_allclose(found, h[5:9, 5:9] @ part, atol=2e-4)


def test_blocks_by_the_power_method():
    """Blocks of curvature 8, 0.02 and -3 at most, coupled with each other."""
    h = np.zeros((12, 12))
    h[:4, :4] = rotated([8.0, 0.1, 0.1, 0.1], 1)
    h[4:8, 4:8] = rotated([0.02, 0.001, 0.001, 0.001], 2)
    h[8:, 8:] = rotated([-3.0, 0.1, 0.1, 0.1], 3)
    h[0, 5] = h[5, 0] = 0.5
    subject = Quadratic(h, (4, 4, 4))
    found = curving.curvature(hessian_of(subject), subject.blocks, np.random.default_rng(0))
    assert [b.curvature for b in found.blocks] == pytest.approx([8.0, 0.02, -3.0], rel=0.01)
    assert all(block.resolved for block in found.blocks)
    assert found.between == pytest.approx(400.0, rel=0.01)
    assert found.largest == pytest.approx(np.linalg.eigvalsh(h)[-1], rel=1e-3)
    assert found.smallest == pytest.approx(np.linalg.eigvalsh(h)[0], rel=1e-3)


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3, 1e4])
def test_the_spread_is_the_condition_number_where_all_directions_are_seen(condition: float):
    subject = Quadratic(rotated(np.geomspace(1 / condition, 1, 20)), start=np.linspace(-1, 1, 20))
    found = curving.curvature(hessian_of(subject), subject.blocks, np.random.default_rng(1))
    assert found.spread == pytest.approx(condition, rel=0.15)


def test_the_spread_is_a_lower_bound():
    subject = Quadratic(rotated(np.geomspace(1e-4, 1, 200)))
    found = curving.curvature(hessian_of(subject), subject.blocks, np.random.default_rng(2))
    assert 30 < found.spread < 1.05e4
    assert found.largest == pytest.approx(1.0, rel=1e-3)


def test_flat_directions_do_not_count():
    """A softmax may be shifted, an input may be unused: curvature 0 is no ravine."""
    values = [0.0] * 5 + np.geomspace(0.05, 1, 15).tolist()
    subject = Quadratic(rotated(values))
    found = curving.curvature(hessian_of(subject), subject.blocks, np.random.default_rng(3))
    assert found.spread == pytest.approx(20.0, rel=0.05)


def test_a_block_without_curvature_is_not_resolved():
    h = np.zeros((8, 8))
    h[:4, :4] = np.diag([1.0, 2.0, 3.0, 4.0])
    subject = Quadratic(h, (4, 4))
    found = curving.curvature(hessian_of(subject), subject.blocks, np.random.default_rng(4))
    assert [block.resolved for block in found.blocks] == [True, False]
    assert found.between is None
    flat = Quadratic(np.zeros((4, 4)))
    nothing = curving.curvature(hessian_of(flat), flat.blocks, np.random.default_rng(5))
    assert (nothing.spread, nothing.between, nothing.largest) == (None, None, 0.0)


def test_sharpness_along_the_gradient_and_its_sign():
    h, start = np.diag([100.0, 1.0, 1.0, 1.0]), np.array([0.1, 2.0, -1.0, 0.5])
    g = h @ start
    found = curving.sharpness(hessian_of(Quadratic(h, start=start)))
    along, sign = g @ h @ g / (g @ g), np.trace(h) / 4
    assert found.gradient == pytest.approx(along, rel=1e-3)
    assert found.sign == pytest.approx(sign, rel=1e-3)
    gains = [(g @ v) ** 2 / (2 * v @ h @ v) for v in (np.sign(g), g)]
    assert found.gain == pytest.approx(gains[0] / gains[1], rel=1e-3)


def test_no_sharpness_without_a_gradient_and_no_gain_without_positive_curvature():
    assert curving.sharpness(hessian_of(Quadratic(np.eye(3), start=[0, 0, 0]))) is None
    found = curving.sharpness(hessian_of(Quadratic(-np.eye(3))))
    assert found.gradient == pytest.approx(-1.0, rel=1e-3)
    assert found.gain is None


def test_blocks_are_chosen_from_every_role():
    blocks = [Block(f"m{i}", "matrix", (10 + i,)) for i in range(40)] + [Block("n", "norm", (3,))]
    chosen = curving.chosen_blocks(blocks)
    assert len(chosen) == curving.BLOCKS
    assert 40 in chosen
    assert {39, 38, 37} <= set(chosen)
    assert 0 not in chosen
    assert curving.chosen_blocks(blocks[:5]) == [0, 1, 2, 3, 4]


def test_a_large_model_has_fewer_directions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(curving, "MEMORY", 5 * 64)
    subject = Quadratic(rotated(np.geomspace(0.1, 1, 64)))
    ritz = curving.lanczos(hessian_of(subject), np.random.default_rng(6))
    assert ritz.size == 5
    assert 0.1 - 1e-3 < ritz.min() < ritz.max() < 1 + 1e-3
