"""Curvature from differences of gradients: of blocks, of the whole, and along the directions that optimizers take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optadvisor.probing.subject import Block, Floats, Weights, cuts

ITERATIONS = 5  # of the power method for a block
BLOCKS = 24  # blocks that are looked at: the largest of each role first
LANCZOS = 32  # products with the Hessian of the whole; fewer where their directions would not fit in MEMORY
MEMORY = 2**26  # numbers, 256 MiB in float32
REACH = 1e-2  # length of a difference's step, as a share of the length of the weights that it moves
LEAST = 1e-3  # per weight, at least: biases begin at 0
ROUNDING = 2.0**-23  # float32
CLEAR = 10.0  # a curvature is resolved when it is this many times as large as what rounding makes of nothing

Ask = Callable[[Weights], Floats]


@dataclass(frozen=True)
class BlockCurvature:
    """The largest curvature in magnitude of a block of the Hessian, by the power method: |Hv|, at most the true one, with the
    sign of v'Hv. `resolved`: whether it stands above the rounding of float32 gradients, and Hv is about the same over twice
    the distance, which it is not where ReLUs bend in between."""

    block: str
    role: str
    curvature: float
    resolved: bool


@dataclass(frozen=True)
class Curvature:
    """Curvatures of the mean loss of a few mini-batches.

    blocks: of the parameters looked at, of `of_blocks`. between: the largest over the smallest of them that are resolved;
    None where fewer than two are. largest, smallest: of the whole, by Lanczos: the largest Ritz value and the smallest, which
    is negative where the loss bends down somewhere. spread: largest over smallest magnitude of the Ritz values that are
    resolved: a lower bound on the condition number, without the directions in which the loss is flat; None where
    none is resolved.
    """

    blocks: list[BlockCurvature]
    of_blocks: int
    between: float | None
    largest: float
    smallest: float
    spread: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sharpness:
    """Directional sharpness v'Hv / v'v (Pan & Li 2023, Toward understanding why Adam converges faster than SGD for
    transformers, section 3) along v = g, the way of gradient descent, and v = sign(g), that of Adam without memory.

    gain: what the best step along sign(g) lowers the loss by, over the same along g, in the quadratic model:
    (g'v)^2 / (2 v'Hv) each; None where a curvature is not positive.
    """

    gradient: float
    sign: float
    gain: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Hessian:
    """Products with the Hessian of a mean loss at fixed weights: H v = (g(w + h v) - g(w - h v)) / 2h, |v| = 1.

    h is REACH times the length of the weights that v moves. The rounding of the gradient, ROUNDING * |g|, becomes
    ROUNDING * |g| / h in the product: `resolution`.
    """

    def __init__(self, ask: Ask, weights: Weights) -> None:
        self.ask, self.weights = ask, weights
        self.gradient = ask(weights)

    def product(self, direction: Floats, where: slice = slice(None), wider: float = 1.0) -> Floats:
        """H times a direction of length 1 that is 0 outside `where`; of the product, what lies there. wider: times h."""
        h = self.reach(where) * wider
        moved = self.weights[where].astype(np.float64)
        ahead, behind = self.weights.copy(), self.weights.copy()
        ahead[where] = (moved + h * direction).astype(np.float32)
        behind[where] = (moved - h * direction).astype(np.float32)
        change = self.ask(ahead)[where] - self.ask(behind)[where]
        # What float32 made of the step, along the direction.
        step = float((ahead[where].astype(np.float64) - behind[where]) @ direction)
        return change / step

    def reach(self, where: slice = slice(None)) -> float:
        part = self.weights[where].astype(np.float64)
        return REACH * max(float(np.linalg.norm(part)), LEAST / REACH * math.sqrt(part.size))

    def resolution(self, where: slice = slice(None)) -> float:
        """A block without a gradient of its own (a bias in front of batch norm) rounds as the others do."""
        g = self.gradient
        share = float(np.linalg.norm(g)) * math.sqrt(g[where].size / g.size)
        return ROUNDING * max(float(np.linalg.norm(g[where])), share) / self.reach(where)


def sharpness(hessian: Hessian) -> Sharpness | None:
    """Along g and sign(g); None where the gradient is 0."""
    g = hessian.gradient
    size = float(np.linalg.norm(g))
    if size == 0:
        return None
    found, gains = [], []
    for way in (g, np.sign(g)):
        unit = way / np.linalg.norm(way)
        curvature = float(unit @ hessian.product(unit))
        found.append(curvature)
        gains.append(float(g @ unit) ** 2 / (2 * curvature) if curvature > 0 else None)
    return Sharpness(found[0], found[1], gains[1] / gains[0] if gains[0] and gains[1] else None)


def curvature(hessian: Hessian, blocks: Sequence[Block], rng: np.random.Generator) -> Curvature:
    """Blocks by the power method, the whole by Lanczos (Golub & Van Loan, Matrix computations, 10.1)."""
    places = cuts(blocks)
    looked_at = [_block(hessian, blocks[i], places[i], rng) for i in chosen_blocks(blocks)]
    sizes = [abs(found.curvature) for found in looked_at if found.resolved]
    ritz = lanczos(hessian, rng)
    magnitudes = np.abs(ritz)
    clear = magnitudes[magnitudes > CLEAR * hessian.resolution()]
    return Curvature(
        looked_at,
        len(blocks),
        max(sizes) / min(sizes) if len(sizes) > 1 else None,
        float(ritz.max()),
        float(ritz.min()),
        float(clear.max() / clear.min()) if clear.size else None,
    )


def chosen_blocks(blocks: Sequence[Block]) -> list[int]:
    """At most BLOCKS of them: of every role in turn the largest that is left."""
    queues = {
        role: sorted((i for i, b in enumerate(blocks) if b.role == role), key=lambda i: -blocks[i].size)
        for role in dict.fromkeys(block.role for block in blocks)
    }
    found: list[int] = []
    while len(found) < min(BLOCKS, len(blocks)):
        found += [queue.pop(0) for queue in queues.values() if queue]
    return sorted(found[:BLOCKS])


def _block(hessian: Hessian, block: Block, where: slice, rng: np.random.Generator) -> BlockCurvature:
    """The power method from the block's gradient, which leans to where the curvature is large, and some of a random one."""
    start = hessian.gradient[where].copy()
    size = float(np.linalg.norm(start)) or 1.0
    v = start / size + 0.1 * rng.standard_normal(start.size) / math.sqrt(start.size)
    image = v
    for _ in range(ITERATIONS):
        if image.any():
            v = image / np.linalg.norm(image)
        image = hessian.product(v, where)
    size = float(np.linalg.norm(image))
    clear = size > CLEAR * hessian.resolution(where)
    if clear:
        clear = float(np.linalg.norm(hessian.product(v, where, 2.0) - image)) < 0.5 * size
    return BlockCurvature(block.name, block.role, math.copysign(size, float(v @ image)), clear)


def lanczos(hessian: Hessian, rng: np.random.Generator) -> Floats:
    """Ritz values, ascending: eigenvalues of the Hessian on the space of v, Hv, HHv and so on, v random."""
    n = hessian.weights.size
    steps = min(LANCZOS, n, max(MEMORY // n, 3))
    basis = np.zeros((steps, n), dtype=np.float32)
    projected = np.zeros((steps, steps))
    v = rng.standard_normal(n)
    for k in range(steps):
        v /= np.linalg.norm(v)
        basis[k] = v
        image = hessian.product(v)
        projected[k, : k + 1] = basis[: k + 1] @ image
        size = float(np.linalg.norm(image))
        for _ in range(2):  # twice is enough (Parlett 1998, The symmetric eigenvalue problem, 6.9)
            image -= (basis[: k + 1] @ image) @ basis[: k + 1]
        v = image
        if float(np.linalg.norm(v)) <= ROUNDING * size:  # the space holds no more
            projected = projected[: k + 1, : k + 1]
            break
    return np.linalg.eigvalsh(projected).astype(np.float64)  # reads the lower half
