"""How the layers of a model are joined: residual additions, skips across scales, attention, products with a graph.

A framework gives the operations of one forward pass, in order (`Op`); what they amount to (`Flow`) is told here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Kinds of operations. "moves" only rearranges, scales or averages; "constant" does not depend on the input.
KINDS = (
    "input",
    "constant",
    "moves",
    "linear",
    "convolution",
    "transposed convolution",
    "embedding",
    "recurrent",
    "attention",
    "norm",
    "add",
    "concatenate",
    "product",
    "softmax",
    "pool",
    "upsample",
    "scatter",
    "nonlinear",
    "unknown",
)
_LEARNED = ("linear", "convolution", "transposed convolution", "recurrent", "attention", "embedding")
_PASSES = ("moves", "add", "nonlinear", "norm")  # what may stand between the product and the softmax of an attention
_LINEAR = ("input", "constant", "moves", "linear", "embedding", "add", "concatenate")
_NEAR = 8  # operations between the parts of one attention


@dataclass(frozen=True)
class Op:
    """One operation: its kind, the earlier operations that it reads (by index), and the weight that it learns.

    shrinks: a convolution with a stride. square: an input that is a square matrix, such as an adjacency. indexed: a scatter
    whose places are an input, such as the edges of a graph.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    weight: int | None = None
    shrinks: bool = False
    square: bool = False
    indexed: bool = False


@dataclass(frozen=True)
class Flow:
    """What a forward pass showed.

    residual_convolutions, residual_others: additions of a branch with such layers to what the branch began with. skips:
    concatenations of a map with one that went down and up again. attentions: attention calls, and softmaxes between two
    products. products: of two tensors that both depend on the input, outside attention. graph: products with a square
    input, sums over given edges. scatters: sums into places. repeated: a layer is applied again to what it made. linear:
    every operation is linear in the weights. first: the kind of the first layer that learns. complete: nothing was done
    out of sight.
    """

    residual_convolutions: int = 0
    residual_others: int = 0
    skips: int = 0
    attentions: int = 0
    products: int = 0
    graph: int = 0
    scatters: int = 0
    repeated: bool = False
    linear: bool = False
    first: str = ""
    complete: bool = True


def flow(ops: Sequence[Op], complete: bool = True) -> Flow:
    """What the operations of a forward pass amount to."""
    past = _Past(ops)
    readers: list[list[int]] = [[] for _ in ops]
    for i, op in enumerate(ops):
        for j in op.inputs:
            readers[j].append(i)
    hand = [i for i, op in enumerate(ops) if op.kind == "softmax" and _between_products(ops, readers, i)]
    attended = {j for i in hand for j in (*_near_products(ops, i), *_next_products(ops, readers, i))}
    residual = [past.residual(i) for i, op in enumerate(ops) if op.kind == "add"]
    learned = [op.kind for op in ops if op.kind in _LEARNED]
    return Flow(
        residual_convolutions=residual.count("convolution"),
        residual_others=residual.count("other"),
        skips=sum(past.skip(i) for i, op in enumerate(ops) if op.kind == "concatenate"),
        attentions=len(hand) + sum(op.kind == "attention" for op in ops),
        products=sum(op.kind == "product" and i not in attended and not op.square for i, op in enumerate(ops)),
        graph=sum((op.square and op.kind == "product") or op.indexed for op in ops),
        scatters=sum(op.kind == "scatter" for op in ops),
        repeated=past.repeated(),
        linear=complete and all(op.kind in _LINEAR for op in ops) and not past.stacked(),
        first=learned[0] if learned else "",
        complete=complete and not any(op.kind == "unknown" for op in ops),
    )


class _Past:
    """What every operation depends on, as bits of one number: a forward pass has thousands of operations."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops = ops
        self.before: list[int] = []  # of every operation those that it depends on, and itself
        for i, op in enumerate(ops):
            bits = 1 << i
            for j in op.inputs:
                bits |= self.before[j]
            self.before.append(bits)
        self._learned = self._of(lambda op: op.kind in _LEARNED)
        self._convolved = self._of(lambda op: "convolution" in op.kind)
        self._down = self._of(lambda op: op.kind == "pool" or op.shrinks)
        self._up = self._of(lambda op: op.kind in ("upsample", "transposed convolution"))
        self._constant = self._of(lambda op: op.kind == "constant")

    def _of(self, test: Callable[[Op], bool]) -> int:
        return sum(1 << i for i, op in enumerate(self.ops) if test(op))

    def _branches(self, at: int) -> int:
        """The operations between an operation and where the branches that it joins began; 0 if they never met."""
        inputs = [j for j in dict.fromkeys(self.ops[at].inputs) if self.ops[j].kind != "constant"]
        if len(inputs) < 2:
            return 0
        shared, every = self.before[inputs[0]], 0
        for j in inputs:
            shared &= self.before[j]
            every |= self.before[j]
        return every & ~shared if shared & ~self._constant else 0

    def residual(self, at: int) -> str:
        """The kind of layers around which an addition leads: "convolution", "other", or "" where it is no residual."""
        branches = self._branches(at)
        if branches & self._convolved:
            return "convolution"
        return "other" if branches & self._learned else ""

    def skip(self, at: int) -> bool:
        """Whether a concatenation joins a map with one that has gone to a smaller scale and back since."""
        branches = self._branches(at)
        return all(branches & some for some in (self._down, self._up, self._convolved))

    def repeated(self) -> bool:
        """Whether a weight is applied to something that it made itself."""
        places: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            if op.weight is not None and op.kind in ("linear", "convolution"):
                if self.before[i] & places.get(op.weight, 0):
                    return True
                places[op.weight] = places.get(op.weight, 0) | 1 << i
        return False

    def stacked(self) -> bool:
        """Whether a layer that learns reads what another one made: linear in each, in both together not."""
        return any(self._learned >> i & 1 and self.before[i] & self._learned & ~(1 << i) for i in range(len(self.ops)))


def _near_products(ops: Sequence[Op], at: int) -> set[int]:
    """Products from which an operation reads, with nothing that learns between."""
    found, front = set(), {at}
    for _ in range(_NEAR):
        front = {j for i in front for j in ops[i].inputs}
        found |= {j for j in front if ops[j].kind == "product"}
        front = {j for j in front if ops[j].kind in _PASSES}
    return found


def _next_products(ops: Sequence[Op], readers: Sequence[Sequence[int]], at: int) -> set[int]:
    """Products that read an operation, with nothing that learns between."""
    found, front = set(), {at}
    for _ in range(_NEAR):
        front = {j for i in front for j in readers[i]}
        found |= {j for j in front if ops[j].kind == "product"}
        front = {j for j in front if ops[j].kind in _PASSES}
    return found


def _between_products(ops: Sequence[Op], readers: Sequence[Sequence[int]], at: int) -> bool:
    return bool(_near_products(ops, at)) and bool(_next_products(ops, readers, at))
