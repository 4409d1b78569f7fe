"""What kind of model it is, and of what: architecture and domain, each only with the evidence for it.

A wrong guess costs more than none: the advice follows it. So what is not seen is not guessed, and the answer says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from optadvisor.frameworks import naming
from optadvisor.frameworks.flow import Flow
from optadvisor.frameworks.parameters import Parameter

# What layers do, as far as it matters here. "patches" is a convolution that cuts an image into tiles.
LAYERS = (
    "linear",
    "convolution",
    "patches",
    "transposed convolution",
    "recurrent",
    "attention",
    "embedding",
    "norm",
    "other",
)
FEW = 0.1  # share of the weights below which a kind of layer does not name the architecture
MOST = 0.7  # and above which it does
TALL = 1000  # rows from which a table is taken for ids rather than for a handful of categories

_GENERATOR, _DISCRIMINATOR = {"generator", "gen"}, {"discriminator", "disc", "critic"}
_POLICY = {"dqn", "policy", "actor", "ppo", "ddpg", "sac", "reinforce"}
_GANS = {"gan", "dcgan", "wgan", "sngan", "sagan", "cgan", "acgan", "biggan", "cyclegan", "stylegan", "infogan"}
_GRAPH = {"gcn", "gat", "gnn", "gin", "sage", "graphsage"}
_GRAPH_PAIRS = {("graph", word) for word in ("conv", "convolution", "attention", "network", "net", "sage", "neural")}
_GRAPH_ARGUMENTS = {"adj", "adjacency", "edge", "edges"}
_TIME = {"t", "time", "timestep", "timesteps", "sigma", "sigmas", "noise"}
_CLOCKS = {"time", "timestep", "timesteps", "sigma", "noise", "t"}
_STATE = {"hidden", "h", "hx", "h0", "state", "carry"}
_ITEMS = {"user", "users", "item", "items", "movie", "movies", "ads", "clicks", "sku", "dlrm"}
_TEXT = {
    "token",
    "tokens",
    "tok",
    "word",
    "words",
    "vocab",
    "wte",
    "text",
    "gpt",
    "bert",
    "char",
    "chars",
    "lm",
    "language",
}
_NO_TEXT = {
    "protein",
    "amino",
    "residue",
    "dna",
    "rna",
    "atom",
    "atoms",
    "nucleotide",
    "note",
    "notes",
    "midi",
    "codes",
}
_SPEECH = {"speech", "asr", "whisper", "audio", "mel", "spectrogram", "tacotron", "wavenet", "vocoder", "speaker"}
_SERIES = {"forecast", "forecaster", "forecasting", "timeseries", "nbeats"}


@dataclass(frozen=True)
class Layer:
    """A layer that has weights: path, class, what it does (one of LAYERS), its elements.

    inputs, outputs: channels or features; of an embedding its rows and columns. planes: dimensions of a convolution's map.
    """

    path: str
    kind: str
    does: str
    size: int
    inputs: int | None = None
    outputs: int | None = None
    planes: int | None = None


@dataclass(frozen=True)
class Input:
    """An input of the model in a batch: its shape and whether it is of numbers or of ids."""

    shape: tuple[int, ...]
    floats: bool


@dataclass(frozen=True)
class Description:
    """A model, as far as a framework can say: what guesses are made from.

    name: its class. names: the names of its parts, classes included. arguments: of its forward pass. flow: None where it
    was not seen how layers are joined; `unseen` says why.
    """

    name: str
    layers: Sequence[Layer]
    parameters: Sequence[Parameter]
    flow: Flow | None = None
    unseen: str = ""
    names: Sequence[str] = ()
    arguments: Sequence[str] = ()
    inputs: Sequence[Input] = ()
    output: tuple[int, ...] | None = None

    def of(self, *does: str) -> list[Layer]:
        """Layers that do one of these."""
        return [layer for layer in self.layers if layer.does in does]

    def share(self, *does: str) -> float:
        """Share of the weights, embeddings, patches and norms left out, that is in such layers."""
        dense = sum(layer.size for layer in self.layers if layer.does not in ("embedding", "patches", "norm"))
        return sum(layer.size for layer in self.of(*does)) / dense if dense else 0.0

    def named(self, words: set[str]) -> str:
        """A part, the model or an argument that has one of these words in its name, or ""."""
        return next((n for n in (self.name, *self.names) if words.intersection(naming.words(n))), "")

    def argument(self, words: set[str]) -> str:
        """An argument of the forward pass that has one of these words in its name, or ""."""
        return next((n for n in self.arguments if words.intersection(naming.words(n))), "")


class Guess(NamedTuple):
    """A value, or None, and the reason for either."""

    value: str | None
    why: str


def architecture(d: Description) -> Guess:
    """Architecture of TaskProfile, and what it was told from; None with what was missing."""
    for test in _TESTS:
        found = test(d)
        if found is not None:
            return found
    return Guess(None, f"no known architecture fits: {_inventory(d)}")


def _inventory(d: Description) -> str:
    counts = [(does, len(d.of(does))) for does in LAYERS if d.of(does)]
    return ", ".join(f"{n} {does} layer{'' if n == 1 else 's'}" for does, n in counts) or "it has no layers"


def _gan(d: Description) -> Guess | None:
    parts = [set(naming.words(name)) for name in d.names]
    if any(p & _GENERATOR for p in parts) and any(p & _DISCRIMINATOR for p in parts):
        return Guess("gan", f"{d.named(_GENERATOR)} and {d.named(_DISCRIMINATOR)} are parts of it")
    own = [word for word in naming.words(d.name) if not word.isdigit()]
    if _GANS.intersection(own):
        return Guess("gan", f"its class is {d.name}")
    if own and own[-1] in ("generator", "discriminator"):
        if d.of("recurrent", "attention"):
            return Guess(None, f"its class is {d.name}, but it has {_inventory(d)}: not every generator is of a GAN")
        return Guess("gan", f"its class is {d.name}")
    return None


def _diffusion(d: Description) -> Guess | None:
    if {"diffusion", "ddpm"}.intersection(naming.words(d.name)):
        return Guess("diffusion", f"its class is {d.name}")
    argument = d.argument(_TIME)
    clock = next((n for n in d.names if _is_clock(n)), "")
    if not argument or not clock:
        return None
    if d.output is not None and d.inputs and d.output not in [i.shape for i in d.inputs]:
        return None
    same = ", and the output has the shape of the input" if d.output is not None else ""
    return Guess("diffusion", f"its forward pass takes {argument!r}, which {clock} embeds{same}")


def _is_clock(name: str) -> bool:
    words = set(naming.words(name))
    embeds = words & {"embed", "embedding", "embeddings", "emb", "embedder", "mlp"} or "temb" in words
    return bool(embeds and (words & _CLOCKS or "temb" in words))


def _policy(d: Description) -> Guess | None:
    words = naming.words(d.name)
    if d.of("attention"):
        return None  # what leads in a transformer is that it is one, in reinforcement learning too
    if _POLICY.intersection(words) or ("q" in words and {"net", "network"}.intersection(words)):
        return Guess("policy", f"its class is {d.name}")
    if "critic" in words:
        return Guess(None, f"its class is {d.name}: of a GAN, or of an actor")
    if d.named({"actor"}) and d.named({"critic"}):
        return Guess("policy", f"{d.named({'actor'})} and {d.named({'critic'})} are parts of it")
    return None


def _gnn(d: Description) -> Guess | None:
    named = next((n for n in (d.name, *d.names) if _is_graph(n)), "")
    argument = d.argument(_GRAPH_ARGUMENTS)
    if d.flow is not None and d.flow.graph:
        return Guess("gnn", f"features are summed along a graph that is an input, {d.flow.graph} times")
    if named:
        return Guess(
            "gnn", f"{named} is a graph network" + (f", its forward pass takes {argument!r}" if argument else "")
        )
    if argument:
        return Guess(None, f"its forward pass takes {argument!r}, but no layer of a graph network was seen")
    return None


def _is_graph(name: str) -> bool:
    words = naming.words(name)
    return bool(_GRAPH.intersection(words)) or not _GRAPH_PAIRS.isdisjoint(zip(words, words[1:], strict=False))


def _attention(d: Description) -> Guess | None:
    layers, seen = d.of("attention"), d.flow.attentions if d.flow else 0
    if not layers and not seen:
        return None
    many = f"attention in its forward pass, {seen} times" if seen else f"{len(layers)} layers of attention"
    if d.of("recurrent"):
        if layers and d.share("recurrent") < MOST:
            return Guess(None, f"{many} and recurrent layers: neither leads")
        return None
    convolutions = d.share("convolution", "transposed convolution")
    if convolutions >= MOST or (layers and d.share("attention") < FEW):
        return None if convolutions >= FEW else Guess(None, f"{many}, with less than {FEW:.0%} of the weights")
    if convolutions >= 1 - MOST:
        return Guess(None, f"{many} and convolutions with {convolutions:.0%} of the weights: neither leads")
    if not layers and d.flow is not None and not d.flow.residual_others:
        return Guess(None, f"{many}, but no residual additions around it")
    patches = d.of("patches")
    return Guess("transformer", many + (f", over patches ({patches[0].path})" if patches else ""))


def _recurrent(d: Description) -> Guess | None:
    layers = d.of("recurrent")
    if not layers:
        return None
    share, planes = d.share("recurrent"), [x for x in d.of("convolution") if (x.planes or 0) > 1]
    if share < 1 - MOST or (planes and share < MOST):
        return Guess(None, f"recurrent layers with {share:.0%} of the weights, beside {_inventory(d)}")
    kinds = ", ".join(dict.fromkeys(layer.kind for layer in layers))
    return Guess("rnn", f"recurrent layers ({kinds}) with {share:.0%} of the weights outside embeddings")


def _convolutional(d: Description) -> Guess | None:
    if not d.of("convolution", "transposed convolution") or _tables(d):
        return None
    count = len(d.of("convolution", "transposed convolution"))
    what = f"{count} convolution{'' if count == 1 else 's'}"
    flow = d.flow
    if flow is None or not flow.complete:
        named = _named_convolutional(d)
        return named or Guess(None, f"{what}; how they are joined was not seen{f' ({d.unseen})' if d.unseen else ''}")
    if flow.skips:
        return Guess("unet", f"{what}, with {flow.skips} concatenations of what has gone to a smaller scale and back")
    if flow.first in ("transposed convolution", "linear", "embedding") or _from_vector(d):
        return Guess(None, f"{what}, behind other layers: maps are made from vectors, which does not say of what")
    if flow.repeated:
        return Guess(None, f"{what}, applied again to what they made")
    if flow.residual_convolutions:
        return Guess("resnet", f"{what}, with {flow.residual_convolutions} residual additions around them")
    if len(d.inputs) > 1 and any(not i.floats for i in d.inputs):
        return Guess(None, f"{what}, and ids beside them")
    return Guess("cnn", f"{what}, without residual additions or skips")


def _named_convolutional(d: Description) -> Guess | None:
    name = "".join(naming.words(d.name))
    for word, value in (("unet", "unet"), ("resnet", "resnet"), ("vgg", "cnn"), ("alexnet", "cnn")):
        if word in name:
            return Guess(value, f"its class is {d.name}, and it has {_inventory(d)}")
    return None


def _from_vector(d: Description) -> bool:
    """Whether the input has no planes and the output has: an image made from a code."""
    return bool(d.inputs and d.output and len(d.output) > 3 and all(len(i.shape) < 3 for i in d.inputs))


def _tables(d: Description) -> list[Layer]:
    """Embeddings of ids; positions and the like are none."""
    return [x for x in d.of("embedding") if not naming.is_whole(x.path)]


def _embedding_tower(d: Description) -> Guess | None:
    tables, dense = _tables(d), d.of("linear")
    if not tables or d.of("convolution", "transposed convolution", "recurrent", "attention"):
        return None
    if all(x.outputs == 1 for x in tables) and len(dense) <= 1:
        return None  # a linear model over ids
    rows = max(x.inputs or 0 for x in tables)
    what = f"{len(tables)} embedding table{'' if len(tables) == 1 else 's'} of up to {rows:,} rows"
    sparse = any(p.role == "sparse embedding" for p in d.parameters)
    items = d.named(_ITEMS)
    if d.flow is None or not d.flow.complete:
        if not (sparse or items) or len(dense) < 2 or len(tables) < 2:
            return Guess(None, f"{what} and {len(dense)} linear layers; how they are joined was not seen")
    elif d.flow.repeated or d.argument(_STATE):
        return Guess(None, f"{what} and linear layers that are applied again to what they made")
    floats = any(i.floats for i in d.inputs)
    if len(dense) < 2 or (len(tables) < 2 and not floats):
        return Guess(
            None, f"{what} and {len(dense)} linear layer{'' if len(dense) == 1 else 's'}: no tower beside tables"
        )
    share = sum(x.size for x in tables) / max(1, sum(x.size for x in d.layers))
    if rows < TALL and share < 0.5 and not sparse:
        return Guess(None, f"{what}, with {share:.0%} of the weights: categories rather than ids")
    return Guess("embedding-tower", f"{what}, with {share:.0%} of the weights, and {len(dense)} linear layers")


def _linear(d: Description) -> Guess | None:
    if {x.does for x in d.layers} - {"linear", "embedding"} or not d.layers:
        return None
    dense, tables = d.of("linear"), d.of("embedding")
    if len(dense) > 1 or any(x.outputs != 1 for x in tables):
        return None
    if d.flow is not None and d.flow.complete and d.flow.products:
        return None
    one = "one linear layer" if dense else ""
    if dense and dense[0].inputs:
        one += f" ({dense[0].inputs:,} -> {dense[0].outputs:,})"
    ids = f"{len(tables)} table{'' if len(tables) == 1 else 's'} with one weight for each id" if tables else ""
    return Guess("linear", " and ".join(part for part in (one, ids) if part) + ", nothing else with weights")


def _mlp(d: Description) -> Guess | None:
    if {x.does for x in d.layers} - {"linear", "norm", "other"} or len(d.of("linear")) < 2 or d.share("linear") < 0.9:
        return None
    what = f"{len(d.of('linear'))} linear layers"
    if "mlp" in naming.words(d.name) or (d.flow is None and all("mlp" in naming.words(x.path) for x in d.of("linear"))):
        return Guess("mlp", f"{what}, in what is called an MLP")
    if d.flow is None or not d.flow.complete:
        return Guess(None, f"{what}; how they are joined was not seen{f' ({d.unseen})' if d.unseen else ''}")
    if d.flow.repeated or d.argument(_STATE):
        return Guess(None, f"{what}, applied again to what they made: a recurrence by hand")
    if d.flow.products or d.flow.attentions or d.flow.scatters:
        return Guess(None, f"{what}, and products or sums of what they made: attention or a graph, perhaps")
    return Guess("mlp", f"{what} one after the other, nothing else with weights but norms")


_TESTS: tuple[Callable[[Description], Guess | None], ...] = (
    _gan,
    _diffusion,
    _policy,
    _gnn,
    _attention,
    _recurrent,
    _convolutional,
    _embedding_tower,
    _linear,
    _mlp,
)


def domain(d: Description, kind: str | None) -> Guess:
    """Domain of TaskProfile, for a model of an architecture that was guessed or declared (or None), and the reason."""
    if kind in ("gan", "diffusion"):
        return Guess("generative", f"a {kind} model makes data")
    if "vae" in naming.words(d.name) or (d.named({"mu"}) and d.named({"logvar", "logsigma"})):
        return Guess("generative", f"{d.name} is a variational autoencoder by its names")
    words = naming.words(d.name)
    if kind == "policy" or _POLICY.intersection(words):
        return Guess("rl", f"a policy or value function by its name, {d.name}")
    if kind == "gnn":
        return Guess("graph", "a graph is its input")
    for value, known in (("speech", _SPEECH), ("timeseries", _SERIES)):
        if known.intersection(words) or (value == "timeseries" and {"time", "series"} <= set(words)):
            return Guess(value, f"its class is {d.name}")
    return _recsys(d, kind) or _language(d, kind) or _vision(d) or Guess(None, "neither its layers nor its names say")


def _recsys(d: Description, kind: str | None) -> Guess | None:
    if kind not in ("embedding-tower", "linear", None) or not _tables(d) or d.of("recurrent", "attention"):
        return None
    items = d.named(_ITEMS)
    if items:
        return Guess("recsys", f"embeddings of ids, and names such as {items}")
    if kind == "embedding-tower" and any(p.role == "sparse embedding" for p in d.parameters):
        return Guess("recsys", "sparse embeddings of ids beside a dense tower")
    return None


def _language(d: Description, kind: str | None) -> Guess | None:
    tables = _tables(d)
    if kind not in ("transformer", "rnn") or not tables or d.of("convolution", "patches"):
        return None
    if any(i.floats for i in d.inputs):
        return None
    other = d.named(_ITEMS | _NO_TEXT | _SPEECH)
    if other:
        return Guess(None, f"ids go through an embedding, but names such as {other} are not of text")
    text, vocabulary = d.named(_TEXT), max(tables, key=lambda x: x.inputs or 0)
    rows = f"ids through an embedding of {vocabulary.inputs:,} rows"
    predicts = [x for x in d.of("linear") if x.outputs == vocabulary.inputs] or (
        d.output is not None and d.output[-1] == vocabulary.inputs
    )
    tied = any(len(p.all_names) > 1 for p in d.parameters if p.role == "embedding")
    if text:
        return Guess("language", f"{rows} into a {kind}, and names such as {text}")
    if predicts or tied:
        return Guess("language", f"{rows} into a {kind} that predicts the same ids")
    if (vocabulary.inputs or 0) >= TALL and len(tables) == 1:
        return Guess("language", f"{rows}, its only table, into a {kind}")
    return None


def _vision(d: Description) -> Guess | None:
    image = next((i for i in d.inputs if i.floats and len(i.shape) == 4 and min(i.shape[2:]) >= 8), None)
    maps = [x for x in d.of("convolution", "patches") if x.planes == 2]
    if maps and maps[0].inputs == 3 and (image is not None or not d.inputs):
        return Guess("vision", f"its first convolution ({maps[0].path}) reads 3 channels")
    if image is not None and (image.shape[1] == 3 or (image.shape[1] == 1 and image.shape[2] == image.shape[3])):
        return Guess("vision", f"its input is images, {'x'.join(map(str, image.shape[1:]))}")
    name = "".join(naming.words(d.name))
    if maps and any(word in name for word in ("vit", "vgg", "resnet", "image", "mnist", "cifar")):
        return Guess("vision", f"its class is {d.name}, with two-dimensional convolutions")
    return None


def sparse_inputs(d: Description) -> bool:
    """Whether zeros among the inputs are features that are absent: ids of tables, columns of a linear model.

    A black pixel, a silent sample, and the ids that a sequence has not, are none.
    """
    sequences = d.of("attention", "recurrent", "convolution", "patches", "transposed convolution")
    if sequences or (d.flow is not None and (d.flow.attentions or d.flow.graph)):
        return False
    linear = _linear(d)
    return bool(d.of("embedding")) or (linear is not None and linear.value is not None)


def convex(d: Description, kind: str | None, convex_loss: str) -> tuple[bool | None, str]:
    """Whether the loss is convex in the parameters. convex_loss: the name of a loss that is convex in the output, or ""."""
    if kind == "linear":
        if convex_loss and d.flow is not None and d.flow.linear:
            return True, f"one linear layer under {convex_loss}"
        return None, ""
    if kind is not None and kind != "other" and len([x for x in d.layers if x.does != "norm"]) > 1:
        return False, "layers upon layers"
    return None, ""
