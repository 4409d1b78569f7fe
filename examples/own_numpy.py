"""A classifier in scikit-learn's style on NumPy arrays, trained by optadvisor's kernels and tuned by a study.

optadvisor tune examples/own_numpy.py:objective --trials 40 --pruner median
optadvisor config examples/own_numpy.py:objective
python examples/own_numpy.py        # a search from Python, in this process
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import optadvisor as oa

# What is known of the task: it orders the rules and gives each its first settings. Every line may be left out.
PROFILE = {"domain": "tabular", "architecture": "mlp", "parameters": 275, "samples": 124, "batch_size": 16}

# What is searched: a range, or a value that is fixed. The rest has the rules' own ranges.
SPACE = {"lr": [1e-4, 1.0], "eps": 1e-8}

# The length of a training, which --steps changes: it is passed as `steps`.
STEPS = 150


class Classifier:
    """One hidden layer of tanh units, cross-entropy; fit in mini-batches by whatever optimizer the config says."""

    def __init__(self, config: oa.OptimizerConfig, width: int = 16, batch: int = 16, seed: int = 0) -> None:
        self.config, self.width, self.batch, self.rng = config, width, batch, np.random.default_rng(seed)

    def fit(self, x, y, steps, watch=None):
        inputs, classes = x.shape[1], int(y.max()) + 1
        self.params = {
            "w1": self.rng.normal(0, inputs**-0.5, (inputs, self.width)),
            "b1": np.zeros(self.width),
            "w2": self.rng.normal(0, self.width**-0.5, (self.width, classes)),
            "b2": np.zeros(classes),
        }
        optimizer = oa.kernels.Optimizer.from_config(self.config, self.params, total_steps=steps)
        for step in range(1, steps + 1):
            rows = self.rng.integers(len(x), size=self.batch)
            optimizer.step(self._gradient(x[rows], y[rows]))
            if watch and step % 25 == 0:
                watch(step)
        return self

    def loss(self, x, y) -> float:
        _, logits = self._forward(x)
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))

    def score(self, x, y) -> float:
        return float(np.mean(self._forward(x)[1].argmax(1) == y))

    def _forward(self, x):
        hidden = np.tanh(x @ self.params["w1"] + self.params["b1"])
        logits = hidden @ self.params["w2"] + self.params["b2"]
        return hidden, logits - logits.max(1, keepdims=True)

    def _gradient(self, x, y):
        hidden, logits = self._forward(x)
        error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        back = error @ self.params["w2"].T * (1 - hidden**2)
        return {"w1": x.T @ back, "b1": back.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}


def data(seed):
    """The wines, a third of them held out."""
    x, y = load_wine(return_X_y=True)
    train_x, held_x, train_y, held_y = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(train_x)
    return scaler.transform(train_x), train_y, scaler.transform(held_x), held_y


def objective(config, report, seed, steps):
    """Cross-entropy on held-out wines, lower is better.

    A learning rate that is too high makes it infinite, or a gradient that is not finite raises NonFiniteGradient: both
    count as diverged, and the study goes on.
    """
    x, y, held_x, held_y = data(seed)
    model = Classifier(config, seed=seed)
    # The pruner may end the training in report(step, value), by an exception that is let through.
    model.fit(x, y, steps, watch=lambda step: report(step, model.loss(held_x, held_y)))
    return model.loss(held_x, held_y)


def accuracy(config, report, seed, steps):
    """The share of held-out wines that are told right, higher is better."""
    x, y, held_x, held_y = data(seed)
    model = Classifier(config, seed=seed)
    return model.fit(x, y, steps, lambda step: report(step, model.score(held_x, held_y))).score(held_x, held_y)


accuracy.direction = "maximize"


if __name__ == "__main__":
    result = oa.tune(objective, trials=20, pruner="median")
    print(f"{result.metric} {result.value:.4f} with {result.best.optimizer}, {result.best.hyperparameters}")
