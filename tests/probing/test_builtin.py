"""Built-in tasks as what is probed."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.probing import BuiltinSubject, measure
from optadvisor.profile import TaskProfile
from optadvisor.studies import seeds, training
from optadvisor.studies.tasks.registry import get


def test_the_gradient_is_the_training_s():
    """Plain descent by hand with the subject's gradients, and the task's own training: the same weights."""
    task = get("digits-mlp")
    subject = BuiltinSubject(task, seed=1)
    weights, lr = subject.start(), 0.1
    run = training.Run(task.family, task.problem, OptimizerConfig.of("sgd", {"lr": lr}), 1, 20, task.start(1))
    for number in range(20):
        loss, grad = subject.advance(weights, number)
        assert np.isfinite(loss)
        weights -= np.float32(lr) * grad
    run.train_to(20)
    np.testing.assert_allclose(weights, run.theta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["digits-mlp", "digits-cnn-bn", "gan-ring", "cartpole-actor-critic", "drifting-minimum"]
)
def test_a_number_is_always_the_same_mini_batch(name: str):
    subject = BuiltinSubject(get(name))
    weights = subject.start()
    before = weights.copy()
    loss, grad = subject.gradient(weights, 5)
    other, _ = subject.gradient(weights, 6)
    again, same = subject.gradient(weights, 5)
    assert loss == again != other
    np.testing.assert_array_equal(grad, same)
    np.testing.assert_array_equal(weights, before)


def test_steps_are_kept_until_the_start():
    """The carts of an actor-critic go on where the step before left them; the moving minimum moves."""
    for name in ("cartpole-actor-critic", "drifting-minimum"):
        subject = BuiltinSubject(get(name))
        weights = subject.start()
        first, _ = subject.gradient(weights, 3)
        for number in range(3):
            subject.advance(weights, number)
        later, _ = subject.gradient(weights, 3)
        subject.start()
        back, _ = subject.gradient(weights, 3)
        assert first == back != later, name


def test_a_range_test_s_training_is_the_study_s():
    task = get("quadratic")
    config = OptimizerConfig.of("adamw", {"lr": 0.01})
    wanted = task.train(config, seeds.derive(4, seeds.RANGE), 50).value
    assert BuiltinSubject(task, seed=4).train(config, 50) == wanted


def test_blocks_are_the_layout():
    task = get("clicks-dlrm")
    subject = BuiltinSubject(task)
    assert [(b.role, b.size) for b in subject.blocks] == list(
        zip(task.problem.layout._fields, task.problem.layout, strict=True)
    )
    assert subject.batch_size == task.profile.batch_size
    assert [block.role for block in BuiltinSubject(get("quadratic")).blocks] == ["dense"]


def test_the_shared_start_is_not_written():
    task = get("quadratic")
    before = task.start(0).copy()
    measure(BuiltinSubject(task), mini_batches=4, steps=4)
    np.testing.assert_array_equal(task.start(0), before)


def test_what_a_person_says_wins_over_the_task():
    subject = BuiltinSubject(get("quadratic"), declared=TaskProfile(steps=77))
    assert subject.declared.steps == 77
    assert subject.declared.parameters == 32


def test_zeros_of_single_examples():
    zeros = BuiltinSubject(get("clicks-hashed-logistic")).zeros()
    assert zeros is not None
    assert zeros.share == pytest.approx(get("clicks-hashed-logistic").profile.sparse_fraction, abs=0.005)
    assert BuiltinSubject(get("digits-cnn")).zeros() is None  # a black pixel is no absent feature
    assert BuiltinSubject(get("text-ngram")).zeros() is None  # nor is a token that is not there
    assert BuiltinSubject(get("quadratic")).zeros() is None
