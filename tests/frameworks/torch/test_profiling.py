"""oa.torch.profile: guesses against models that people write, what is read of the data, and that nothing is changed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels.errors import InputError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset  # noqa: E402

from . import architectures, more_architectures  # noqa: E402

torch.set_num_threads(1)
CASES = {**architectures.CASES, **more_architectures.CASES}
TRUTH = ("architecture", "domain")
PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def seen(case, batch):
    torch.manual_seed(0)
    return oa.torch.profile(case.make(), case.batch() if batch else None, case.loss)


def verdict(guess, truth):
    return "right" if guess == truth else "undecided" if guess is None else "wrong"


# guesses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "no batch"])
@pytest.mark.parametrize("name", CASES)
def test_no_guess_is_wrong_and_every_answer_has_a_reason(name, batch):
    case = CASES[name]
    look = seen(case, batch)
    assert not look.notes
    for field in TRUTH:
        guess, truth = getattr(look.profile, field), getattr(case, field)
        assert guess in (None, truth)
        assert (field in look.reasons) != (field in look.undecided)
        assert (look.reasons.get(field) or look.undecided[field]).strip()


def test_the_page_shows_what_comes_out():
    """The table of docs/models.md, line by line, and its sums."""
    lines = PAGE.read_text().splitlines()
    sums = {}
    for title, cases in (("made with", architectures.CASES), ("made without", more_architectures.CASES)):
        for field in TRUTH:
            for batch in (True, False):
                found = Counter(
                    verdict(getattr(seen(c, batch).profile, field), getattr(c, field)) for c in cases.values()
                )
                sums[title, field, batch] = " / ".join(str(found[v]) for v in ("right", "undecided", "wrong"))
    for title, field in {(title, field) for title, field, _ in sums}:
        assert f"| {field}, {title} | {sums[title, field, True]} | {sums[title, field, False]} |" in lines
    for name, case in CASES.items():
        cells = [seen(case, batch).profile.architecture or "-" for batch in (True, False)]
        domain = seen(case, True).profile.domain or "-"
        row = f"| {name} | {case.architecture} | {cells[0]} | {cells[1]} | {case.domain or '-'} | {domain} |"
        assert row in lines


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.layer(x)))


def test_declared_fields_win():
    look = oa.torch.profile(Net(), torch.ones(3, 4), architecture="policy", samples=500, batch_size=7, convex=True)
    assert (look.profile.architecture, look.profile.samples, look.profile.batch_size) == ("policy", 500, 7)
    assert look.profile.convex is True
    assert look.reasons["architecture"] == look.reasons["batch_size"] == "declared"
    assert look.profile.domain == "rl"  # a guess builds on what is declared
    assert look.profile.parameters == 30
    assert look.reasons["parameters"] != "declared"
    assert oa.torch.profile(Net(), parameters=9).profile.parameters == 9


def test_epochs_become_steps():
    look = oa.torch.profile(Net(), torch.ones(32, 4), samples=100, epochs=3)
    assert look.profile.steps == 12
    assert look.reasons["steps"] == "3 epochs of 4 steps"


@pytest.mark.parametrize(
    ("arguments", "declared", "words"),
    [
        ((nn.Linear,), {}, ("model is type", "torch.nn.Module")),
        ((Net(),), {"colour": 3}, ("unknown profile field 'colour'",)),
        ((Net(),), {"domain": "visoin"}, ("unknown domain 'visoin'", "did you mean 'vision'")),
        ((Net(),), {"epochs": 2}, ("epochs is 2", "samples and batch_size")),
        ((Net(), torch.ones(3, 4)), {"epochs": 2}, ("which needs samples too",)),
        ((Net(), torch.ones(3, 4)), {"epochs": 2, "steps": 9, "samples": 9}, ("give one of them",)),
        ((Net(), iter([torch.ones(3, 4)])), {}, ("can be read once only",)),
        ((nn.Sequential(nn.LazyLinear(3)),), {}, ("no shape yet",)),
    ],
)
def test_errors(arguments, declared, words):
    with pytest.raises(InputError) as error:
        oa.torch.profile(*arguments, **declared)
    assert all(word in str(error.value) for word in words)


# what is read --------------------------------------------------------------------------------------------------------


def test_counts_norms_tied_frozen_and_wrapped():
    model = architectures.GPT()
    model.wpe.requires_grad_(False)
    look = oa.torch.profile(torch.compile(nn.DataParallel(model), backend="eager"))
    assert look.profile.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(look.counts.values()) == look.profile.parameters
    assert look.counts["embedding"] == 65 * 32
    assert look.counts["norm"] == 5 * 64
    assert look.frozen == 16 * 32
    assert look.tied == [("wte.weight", "lm_head.weight")]
    assert look.norms == {"layer": 5}
    assert look.wrappers == ["torch.compile", "DataParallel"]
    assert look.profile.architecture == "transformer"
    text = str(look)
    assert "GPT, in DataParallel in torch.compile" in text
    assert "wte.weight = lm_head.weight" in text
    assert "frozen         512 parameters" in text


def test_compiled_parts_are_looked_into():
    model = architectures.GPT()
    model.h[0] = torch.compile(model.h[0], backend="eager")
    model.h[1].compile(backend="eager")
    look = oa.torch.profile(model, torch.zeros(2, 8, dtype=torch.long))
    assert look.reasons["architecture"] == "attention in its forward pass, 2 times"
    assert [p.name for p in look.parameters] == [p.name for p in oa.torch.profile(architectures.GPT()).parameters]


def test_norms_by_kind_with_and_without_weights():
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2), nn.InstanceNorm2d(2), nn.Linear(2, 2)
    )
    assert oa.torch.profile(model).norms == {"batch": 2, "group": 1, "rms": 1, "instance": 1}
    assert dict(oa.torch.profile(nn.Linear(2, 2)).norms) == {}


def test_a_loader_knows_samples_and_batch_size():
    data = TensorDataset(torch.randn(50, 4), torch.zeros(50).long())
    look = oa.torch.profile(Net(), DataLoader(data, batch_size=8), nn.CrossEntropyLoss(), epochs=2)
    assert (look.profile.samples, look.profile.batch_size, look.profile.steps) == (50, 8, 14)
    part = DataLoader(data, batch_size=8, sampler=SubsetRandomSampler(range(20)))
    assert oa.torch.profile(Net(), part).profile.samples == 20
    batches = [(torch.randn(6, 4), torch.zeros(6).long())] * 3
    look = oa.torch.profile(Net(), batches)
    assert (look.profile.samples, look.profile.batch_size) == (None, 6)


def test_an_endless_stream_has_no_samples():
    class Stream(IterableDataset):
        def __iter__(self):
            while True:
                yield torch.randn(4)

    look = oa.torch.profile(Net(), DataLoader(Stream(), batch_size=5))
    assert (look.profile.samples, look.profile.batch_size) == (None, 5)


def test_sparsity_of_numbers_and_ids():
    x = torch.zeros(10, 4)
    x[:, 0] = 1.0
    assert oa.torch.profile(nn.Linear(4, 2), x).profile.sparse_fraction == 0.75
    assert oa.torch.profile(nn.Linear(4, 2), torch.ones(10, 4)).profile.sparse_fraction == 0.0
    assert oa.torch.profile(Net(), x).profile.sparse_fraction is None  # they may be pixels
    hashed = architectures.Hashed()
    ids = torch.tensor([[1, 2, 3, 4], [5, 5, 6, 7]])  # 4 and 3 different ones of 10,000
    look = oa.torch.profile(hashed, (ids, torch.zeros(2)))
    assert look.profile.sparse_fraction == pytest.approx(1 - 3.5 / 10_000)
    assert look.reasons["sparse_fraction"] == "zeros among the inputs of an example: 10,000 rows of embedding tables"
    dense, ids = torch.ones(4, 13), torch.zeros(4, 3, dtype=torch.long)
    look = oa.torch.profile(architectures.DLRM(), (dense, ids, torch.zeros(4)))
    assert look.profile.sparse_fraction == pytest.approx((6300 - 3) / (6300 + 13))  # as the built-in task counts
    sparse = torch.eye(4).to_sparse()
    assert oa.torch.profile(nn.Sequential(nn.Linear(4, 2)), (sparse, torch.ones(4))).profile.sparse_fraction == 0.75


@pytest.mark.parametrize("name", ["ResNet", "GPT, tied head", "GRU forecast", "GCN"])
def test_no_sparsity_where_inputs_are_no_features(name):
    assert seen(CASES[name], True).profile.sparse_fraction is None


def test_the_rows_of_a_graph_are_no_batch():
    assert seen(CASES["GCN"], True).profile.batch_size is None


@pytest.mark.parametrize(
    ("model", "loss", "convex"),
    [
        (nn.Linear(4, 3), nn.CrossEntropyLoss(), True),
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)), nn.functional.cross_entropy, True),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), nn.CrossEntropyLoss(), None),
        (nn.Linear(4, 3), lambda model, batch: model(batch[0]).sum(), None),
        (nn.Linear(4, 3), nn.CTCLoss(), None),
        (Net(), nn.CrossEntropyLoss(), False),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), nn.MSELoss(), False),
    ],
)
def test_convex(model, loss, convex):
    assert oa.torch.profile(model, (torch.randn(5, 4), torch.zeros(5).long()), loss).profile.convex is convex


@pytest.mark.parametrize(
    "batch",
    [
        torch.ones(3, 4),
        (torch.ones(3, 4), torch.zeros(3)),
        [torch.ones(3, 4), torch.zeros(3)],
        {"x": torch.ones(3, 4)},
        {"x": torch.ones(3, 4), "labels": torch.zeros(3)},
        [((torch.ones(3, 4),), torch.zeros(3))],
        [(torch.ones(3, 4),)],
    ],
    ids=["tensor", "tuple", "list", "keywords", "labels", "nested", "one"],
)
def test_forms_of_a_batch(batch):
    look = oa.torch.profile(Net(), batch)
    assert not look.notes
    assert look.profile.architecture == "mlp"
    assert look.profile.batch_size == 3


def test_a_loss_function_says_how_the_model_is_called():
    class Odd(Net):
        def forward(self, *, features):
            return super().forward(features)

    def loss_fn(model, batch):
        return model(features=batch["f"]).sum() + torch.softmax(batch["f"] @ batch["f"].T, 0).sum()

    look = oa.torch.profile(Odd(), {"f": torch.ones(3, 4)}, loss_fn)
    assert not look.notes
    assert look.profile.architecture == "mlp"  # what the loss does is not the model's


def test_a_forward_pass_that_fails_is_a_note():
    look = oa.torch.profile(Net(), torch.ones(3, 5))
    assert look.notes[0].startswith("the forward pass on the batch failed: RuntimeError: mat1 and mat2")
    assert look.profile.architecture == "mlp"  # traced instead
    assert look.profile.batch_size == 3
    assert "not seen" in str(look)


def test_something_done_out_of_sight_is_not_guessed_over():
    class Hidden(Net):
        def forward(self, x):
            return self.out(torch.from_numpy(np.tanh(self.layer(x).numpy())))

    look = oa.torch.profile(Hidden(), torch.ones(3, 4))
    assert look.profile.architecture is None
    assert "how they are joined was not seen" in look.undecided["architecture"]


# nothing is changed --------------------------------------------------------------------------------------------------


class Restless(nn.Module):
    """Changes whatever a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("scratch", None)
        self.last, self.count = None, 0

    def forward(self, x):
        self.calls += 1
        self.scratch = x
        self.last, self.count = x, self.count + 1
        self.norm.running_mean.add_(1.0)
        random.random(), np.random.rand()
        return self.fc(self.norm(x) + torch.randn(4))


@pytest.mark.parametrize("batch", [torch.ones(3, 4), None, torch.ones(3, 9)], ids=["batch", "traced", "failing"])
def test_model_and_random_states_are_as_they_were(batch):
    model = nn.Sequential(Restless(), nn.Dropout())
    model[0].norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    buffers = dict(model.named_buffers())
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    oa.torch.profile(model, batch)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(buffers[name] is value for name, value in model.named_buffers())
    assert [module.training for module in model.modules()] == modes
    assert (model[0].last, model[0].count, model[0].scratch) == (None, 0, None)
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_a_shuffling_loader_starts_where_it_would_have():
    class Rows(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, i):
            return torch.full((4,), float(i)) + torch.rand(()), i

    def order():
        torch.manual_seed(5)
        return [batch[1].tolist() for batch in DataLoader(Rows(), batch_size=4, shuffle=True)]

    expected, model = order(), Net()
    torch.manual_seed(5)
    loader = DataLoader(Rows(), batch_size=4, shuffle=True)
    oa.torch.profile(model, loader)
    assert [batch[1].tolist() for batch in loader] == expected


def test_a_loader_with_a_generator_of_its_own_starts_where_it_would_have():
    data = TensorDataset(torch.arange(20.0))

    def loader():
        return DataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1, 1)

        def forward(self, x):
            return self.fc(x[:, None])

    looked = loader()
    oa.torch.profile(One(), looked)
    assert [b[0].tolist() for b in looked] == [b[0].tolist() for b in loader()]


# what it is for ------------------------------------------------------------------------------------------------------


def test_recommend_takes_a_look():
    look = seen(CASES["GPT, tied head"], True)
    advice = oa.recommend(look)
    assert advice.profile == look.profile
    assert advice.best.optimizer == "adamw"
    assert advice.to_dict() == oa.recommend(look.profile).to_dict()


def test_a_look_as_json_says_what_was_read_and_not_what_was_declared():
    look = oa.torch.profile(Net(), torch.ones(3, 4), domain="tabular")
    data = look.to_dict()
    assert data["name"] == "Net"
    assert data["parameters"] == {"matrix": 24, "bias": 6}
    assert data["read"]["architecture"] == {"value": "mlp", "why": look.reasons["architecture"]}
    assert "domain" not in data["read"]
    assert data["undecided"] == {}
