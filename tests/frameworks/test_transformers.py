"""Configs for Hugging Face's Trainer: against the real one, whole trainings and every schedule it has."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor.kernels.schedules import Schedule

STEPS = 12


def config(optimizer: str, schedule: Schedule | None = None, **hyperparameters: Any) -> oa.OptimizerConfig:
    return oa.OptimizerConfig.of(optimizer, hyperparameters, schedule)


# What needs no framework.


def test_adamw_in_the_trainers_words():
    made = config("adamw", Schedule("warmup_cosine", 10, 200), lr=3e-4, weight_decay=0.1, betas=(0.9, 0.95))
    assert made.to_training_arguments() == {
        "optim": "adamw_torch",
        "learning_rate": 3e-4,
        "weight_decay": 0.1,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "max_steps": 200,
        "max_grad_norm": 0.0,
    }


def test_other_rules_go_into_optim_args():
    arguments = config("nag", lr=0.1, momentum=0.8).to_training_arguments()
    assert arguments["optim"] == "sgd"
    assert arguments["optim_args"] == "momentum=0.8,nesterov=true"
    assert "max_steps" not in arguments, "a constant schedule has no length"
    assert config("adam", lr=1e-3).to_training_arguments()["optim"] == "adamw_torch", "the same without decay"
    assert "centered=true" in config("rmsprop", lr=1e-3, centered=True).to_training_arguments()["optim_args"]


def test_total_steps_decide_the_warm_up():
    open_ended = oa.OptimizerConfig.from_dict(
        {"schema": 1, "optimizer": "adam", "schedule": {"name": "warmup_cosine", "warmup_fraction": 0.1}}
    )
    arguments = open_ended.to_training_arguments(500)
    assert (arguments["warmup_steps"], arguments["max_steps"]) == (50, 500)
    with pytest.raises(oa.InputError, match="needs the length of the training: pass total_steps"):
        open_ended.to_training_arguments()


HYBRID = {
    "schema": 1,
    "optimizer": "hybrid",
    "groups": [
        {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {}},
        {"role": "dense", "optimizer": "adamw", "hyperparameters": {}},
    ],
}
OTHER_LR = {
    "schema": 1,
    "optimizer": "adamw",
    "groups": [{"role": "no_decay", "hyperparameters": {"weight_decay": 0.0, "lr": 0.5}}],
}
ALL_DECAY = {"schema": 1, "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.1}}
FULL = {"schema": 1, "optimizer": "sgd", "batch": "full"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (HYBRID, "it is a hybrid"),
        (OTHER_LR, "its group no_decay differs in more than weight decay"),
        (ALL_DECAY, "it decays norms and biases too"),
        (FULL, "each of its steps uses all samples"),
        (config("adam", weight_decay=0.1).to_dict(), "adam with weight_decay 0.1 decays through the gradient"),
        (config("adamw", amsgrad=True).to_dict(), "it does not take amsgrad of adamw"),
        (config("adagrad", initial_accumulator_value=0.1).to_dict(), "it does not take initial_accumulator_value"),
        (config("ftrl").to_dict(), "torch.optim has no ftrl"),
        (config("nadam").to_dict(), "it has no nadam"),
        (config("sgd", Schedule("step", 0, 90)).to_dict(), "it has no schedule step"),
        (config("sgd", Schedule("inverse_sqrt", 0)).to_dict(), "it has no schedule inverse_sqrt without warm-up"),
        (
            config("sgd", Schedule("wsd", 5, 90, 0.1)).to_dict(),
            "it has no schedule wsd with both a warm-up and a floor",
        ),
        ({**config("rmsprop").to_dict(), "convention": "optax"}, "torch.optim has no rmsprop in convention 'optax'"),
    ],
)
def test_what_the_trainer_cannot_express_is_refused_with_the_recipe(given: dict[str, Any], why: str):
    with pytest.raises(oa.InputError) as caught:
        oa.OptimizerConfig.from_dict(given).to_training_arguments()
    text = str(caught.value)
    assert text.startswith(f"Hugging Face's Trainer cannot express this config: {why}")
    assert text.endswith("pass Trainer(optimizers=config.build_torch(model, total_steps)) in place of these arguments")
    assert "\n" not in text


# Against the real Trainer.


@pytest.fixture(scope="module")
def hugging() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    return pytest.importorskip("transformers")


SCHEDULES = [
    Schedule("constant"),
    Schedule("warmup", 4),
    Schedule("cosine", 0, STEPS),
    Schedule("cosine", 0, STEPS, 0.1),
    Schedule("warmup_cosine", 3, STEPS),
    Schedule("warmup_cosine", 3, STEPS, 0.05),
    Schedule("linear", 3, STEPS),
    Schedule("linear", 3, STEPS, 0.2),
    Schedule("inverse_sqrt", 3, STEPS),
    Schedule("wsd", 3, STEPS),
    Schedule("wsd", 0, STEPS, 0.1),
]


@pytest.mark.parity
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.name}-{s.warmup_steps}-{s.floor}")
def test_every_factor_of_a_schedule(hugging: Any, schedule: Schedule):
    import torch

    arguments = config("sgd", schedule, lr=0.5).to_training_arguments(STEPS)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = hugging.get_scheduler(
        arguments["lr_scheduler_type"],
        optimizer,
        hugging.TrainingArguments(**arguments, use_cpu=True).get_warmup_steps(STEPS),
        STEPS,
        arguments.get("lr_scheduler_kwargs"),
    )
    resolved = schedule.resolve(STEPS)
    for t in range(STEPS + 1):
        assert scheduler.get_last_lr()[0] == pytest.approx(0.5 * resolved.factor(t), abs=1e-12), t
        optimizer.step()
        scheduler.step()


CONFIGS = {
    "adamw": config("adamw", Schedule("warmup_cosine", 3, STEPS), lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "adam": config("adam", Schedule("linear", 2, STEPS), lr=0.01),
    "nag": config("nag", Schedule("cosine", 0, STEPS), lr=0.1, momentum=0.8, weight_decay=0.01),
    "momentum": config("momentum", lr=0.1, momentum=0.9, dampening=0.1),
    "sgd": config("sgd", lr=0.1),
    "rmsprop": config("rmsprop", lr=1e-3, alpha=0.9, centered=True, momentum=0.5),
    "adagrad": config("adagrad", lr=0.05, lr_decay=0.01, eps=1e-6),
}


def data_and_model() -> tuple[list[dict[str, Any]], Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Classifier(nn.Module):
        """As transformers' models: labels in, a loss out."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.ln, self.last = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            logits = self.last(torch.tanh(self.ln(self.first(x))))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(8), "labels": torch.randint(3, ())} for _ in range(STEPS * 4)]
    return rows, Classifier()


def by_hand(model: Any, rows: list[dict[str, Any]], made: oa.OptimizerConfig) -> Any:
    import torch

    optimizer, scheduler = made.build_torch(model, STEPS)
    for i in range(0, len(rows), 4):
        batch = {key: torch.stack([row[key] for row in rows[i : i + 4]]) for key in ("x", "labels")}
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()
        scheduler.step()
    return model


def by_trainer(hugging: Any, model: Any, rows: Any, folder: Path, optimizers: Any = None, **arguments: Any) -> Any:
    from torch.utils.data import SequentialSampler

    class InOrder(hugging.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset or self.train_dataset)

    trainer = InOrder(
        model,
        hugging.TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            **{"max_steps": STEPS, **arguments},
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        **({} if optimizers is None else {"optimizers": optimizers}),
    )
    trainer.train()
    return trainer


def same(a: Any, b: Any) -> None:
    import torch

    for (name, one), (_, other) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=2e-6), name
        assert one.isfinite().all()


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_the_trainer_reaches_the_weights_of_a_loop_with_build_torch(hugging: Any, name: str, tmp_path: Path):
    rows, model = data_and_model()
    made = CONFIGS[name]
    theirs, start = copy.deepcopy(model), copy.deepcopy(model)
    arguments = made.to_training_arguments(STEPS, theirs)
    by_trainer(hugging, theirs, rows, tmp_path, **arguments)
    ours = by_hand(model, rows, made)
    same(ours, theirs)
    moved = sum(float((a - b).detach().norm()) for a, b in zip(ours.parameters(), start.parameters(), strict=True))
    assert moved > 0.01
    assert math.isfinite(moved)


@pytest.mark.parity
def test_the_recipe_for_what_it_cannot_express(hugging: Any, tmp_path: Path):
    rows, model = data_and_model()
    made = config("ftrl", lr=0.1)
    theirs = copy.deepcopy(model)
    pair = made.build_torch(theirs, STEPS)
    monitor = oa.torch.Monitor(pair[0], theirs)
    trainer = by_trainer(hugging, theirs, rows, tmp_path, pair, max_grad_norm=0.0)
    assert trainer.lr_scheduler is pair[1]
    assert monitor.steps == STEPS, "a monitor sees the steps that the Trainer takes"
    assert oa.torch.Monitor(trainer.optimizer).optimizer is pair[0], "also through Accelerate's wrapper"
    same(by_hand(model, rows, made), theirs)


@pytest.mark.parity
def test_the_recipe_steps_the_schedule_once_a_step(hugging: Any, tmp_path: Path):
    rows, model = data_and_model()
    made = CONFIGS["adamw"]
    theirs = copy.deepcopy(model)
    by_trainer(hugging, theirs, rows, tmp_path, made.build_torch(theirs, STEPS), max_grad_norm=0.0)
    same(by_hand(model, rows, made), theirs)


@pytest.mark.parity
def test_groups_that_the_trainer_makes_otherwise_are_told(hugging: Any):
    from torch import nn

    made = CONFIGS["adamw"]
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(oa.InputError) as caught:
        made.to_training_arguments(STEPS, model)
    assert str(caught.value).startswith(
        "Hugging Face's Trainer decays 1.weight (weight of BatchNorm2d), and the config does not: pass Trainer("
    )
    config("adamw", lr=1e-3, weight_decay=0.0).to_training_arguments(STEPS, model)  # nothing is decayed: no difference


@pytest.mark.parity
def test_groups_of_transformers_own_models_are_ours(hugging: Any):
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 50,
    }
    models = [
        hugging.BertModel(hugging.BertConfig(**small)),
        hugging.GPT2LMHeadModel(hugging.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)),
        hugging.LlamaForCausalLM(hugging.LlamaConfig(**small, num_key_value_heads=2)),
    ]
    for model in models:
        CONFIGS["adamw"].to_training_arguments(STEPS, model)
