"""What operations amount to: residuals, skips, attention by hand, graphs, recurrence, linearity. Needs no framework."""

from __future__ import annotations

from optadvisor.frameworks.flow import Op, flow


def graph(*ops):
    """(kind, inputs, more) in order; inputs are indices."""
    return [Op(kind, tuple(inputs), **(more[0] if more else {})) for kind, inputs, *more in ops]


X = ("input", ())


def test_a_chain_has_none_of_it():
    found = flow(graph(X, ("convolution", [0]), ("nonlinear", [1]), ("convolution", [2]), ("linear", [3])))
    assert (found.residual_convolutions, found.skips, found.attentions, found.graph) == (0, 0, 0, 0)
    assert found.first == "convolution"
    assert found.complete
    assert not found.linear
    assert not found.repeated


def test_an_addition_around_layers_is_a_residual_and_one_of_two_inputs_is_none():
    assert flow(graph(X, ("convolution", [0]), ("add", [0, 1]))).residual_convolutions == 1
    assert flow(graph(X, ("linear", [0]), ("add", [0, 1]))).residual_others == 1
    assert flow(graph(X, ("linear", [0]), ("convolution", [0]), ("add", [1, 2]))).residual_convolutions == 1
    assert flow(graph(X, X, ("convolution", [0]), ("add", [1, 2]))).residual_convolutions == 0
    assert flow(graph(X, ("nonlinear", [0]), ("add", [0, 1]))).residual_others == 0
    constant = graph(X, ("constant", ()), ("linear", [0]), ("add", [1, 2]))
    assert flow(constant).residual_others == 0


def test_a_skip_goes_down_and_up_again():
    down, up = ("convolution", [0], {"shrinks": True}), ("transposed convolution", [1])
    assert flow(graph(X, down, up, ("concatenate", [0, 2]))).skips == 1
    assert flow(graph(X, ("pool", [0]), ("convolution", [1]), ("upsample", [2]), ("concatenate", [0, 3]))).skips == 1
    assert flow(graph(X, ("convolution", [0]), ("concatenate", [0, 1]))).skips == 0  # DenseNet
    assert flow(graph(X, ("pool", [0]), ("upsample", [1]), ("concatenate", [0, 2]))).skips == 0  # nothing learned there


def test_attention_by_hand_is_a_softmax_between_products():
    qkv = [X, ("linear", [0]), ("linear", [0]), ("linear", [0])]
    hand = [*qkv, ("product", [1, 2]), ("moves", [4]), ("softmax", [5]), ("moves", [6]), ("product", [7, 3])]
    found = flow(graph(*hand))
    assert (found.attentions, found.products) == (1, 0)
    assert flow(graph(*qkv, ("product", [1, 2]), ("softmax", [4]))).attentions == 0
    between = [*qkv, ("product", [1, 2]), ("linear", [4]), ("softmax", [5]), ("product", [6, 3])]
    found = flow(graph(*between))
    assert (found.attentions, found.products) == (0, 2)
    assert flow(graph(X, ("attention", [0]))).attentions == 1


def test_graphs_and_sums_into_places():
    assert flow(graph(X, X, ("product", [0, 1], {"square": True}))).graph == 1
    assert flow(graph(X, X, ("product", [0, 1], {"square": True}))).products == 0
    found = flow(graph(X, X, ("scatter", [0, 1], {"indexed": True})))
    assert (found.graph, found.scatters) == (1, 1)
    assert flow(graph(X, ("scatter", [0]))).graph == 0


def test_a_layer_that_is_applied_to_what_it_made():
    own = {"weight": 7}
    assert flow(graph(X, ("linear", [0], own), ("nonlinear", [1]), ("linear", [2], own))).repeated
    assert not flow(graph(X, X, ("linear", [0], own), ("linear", [1], own), ("concatenate", [2, 3]))).repeated


def test_linear_in_the_weights():
    assert flow(graph(X, ("moves", [0]), ("linear", [1]))).linear
    assert flow(graph(X, X, ("embedding", [0]), ("linear", [1]), ("add", [2, 3]))).linear
    assert not flow(graph(X, ("linear", [0]), ("linear", [1]))).linear
    assert not flow(graph(X, ("linear", [0]), ("nonlinear", [1]))).linear
    assert not flow(graph(X, ("linear", [0])), complete=False).linear


def test_what_was_out_of_sight():
    assert not flow(graph(X, ("unknown", [0]))).complete
    assert not flow(graph(X), complete=False).complete
