"""Muon: the momentum of a matrix, orthogonalised; AdamW for everything that is not a matrix."""

from __future__ import annotations

import math
from typing import Any

from optadvisor.kernels.rules.adam import M, S, adamw, adamw_coefficients
from optadvisor.kernels.rules.record import (
    OUTSIDE,
    Dimension,
    Family,
    Form,
    Hyperparameter,
    Rule,
    State,
    epsilon,
    learning_rate,
    weight_decay,
)

SQUARES: Any = None

# Keller Jordan's quintic: steep at 0, so that five iterations bring every singular value to between 0.7 and 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
SMALLEST = 1e-7  # norm that a matrix is divided by at least


def update(p, g, v, lr, keep, take, ahead, shrink, match_rms):
    v = keep * v + take * g
    return v + ahead * (g - v), v


def stage(p, direction, memory, lr, keep, take, ahead, shrink, match_rms):
    height, width = p.shape
    kind = p.dtype.type
    a, b, c = kind(A), kind(B), kind(C)
    u = direction / kind(max(math.sqrt(SQUARES(direction.reshape(p.size))), SMALLEST))
    for _ in range(ITERATIONS):  # on the smaller of the two Gram matrices
        if height <= width:
            gram = u @ u.T
            u = a * u + (b * gram + c * (gram @ gram)) @ u
        else:
            gram = u.T @ u
            u = a * u + u @ (b * gram + c * (gram @ gram))
    ratio = 0.2 * math.sqrt(max(height, width)) if match_rms else math.sqrt(max(1.0, height / width))
    rate = kind(lr * ratio)
    for i in range(height):
        for j in range(width):
            p[i, j] = shrink * p[i, j] - rate * u[i, j]


def coefficients(
    t: int, lr: float, momentum: float, nesterov: float, weight_decay: float, match_rms: float
) -> tuple[float, ...]:
    ahead = 1.0 - momentum if nesterov else 0.0
    return lr, momentum, 1.0 - momentum, ahead, 1.0 - lr * weight_decay, match_rms


def vector_coefficients(
    t: int, lr: float, adam_lr_factor: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    return adamw_coefficients(t, lr * adam_lr_factor, beta1, beta2, eps, weight_decay)


FORM = Form(
    "muon", update, coefficients, (State("momentum_buffer", "moving average of gradients (matrices)"),), stage=stage
)
VECTOR_FORM = Form("muon_adamw", adamw, vector_coefficients, (M, S))

MUON = Rule(
    id="muon",
    title="Muon (orthogonalised momentum; AdamW where there is no matrix)",
    formula="v <- momentum*v + (1-momentum)*g;  u = momentum*v + (1-momentum)*g (nesterov), else v;  "
    "O = five Newton-Schulz iterations X <- a*X + (b*XX' + c*XX'XX')*X from u/|u|;  "
    "p <- p*(1 - lr*weight_decay) - lr*sqrt(max(1, height/width))*O;  "
    "parameters that are not matrices: AdamW with lr*adam_lr_factor",
    hyperparameters=(
        learning_rate(2e-2, 1e-4, 0.3),
        Hyperparameter(
            "momentum",
            0.95,
            "share of the moving average that stays each step",
            high=1.0,
            open_high=True,
            search=(Dimension("one_minus_momentum", 0.005, 0.5, complement=True),),
        ),
        Hyperparameter("nesterov", True, "mix the gradient into the moving average once more"),
        weight_decay(0.0, "decoupled weight decay: p shrinks by lr*weight_decay a step", 1e-4, 1.0),
        Hyperparameter(
            "match_rms", False, "scale by 0.2*sqrt(max(height, width)), so that lr means what it means to AdamW"
        ),
        Hyperparameter("adam_lr_factor", 0.015, "AdamW's learning rate as a multiple of lr", high=1e6),
        Hyperparameter(
            "betas", (0.9, 0.95), "AdamW's shares of its moving averages that stay each step", high=1.0, open_high=True
        ),
        epsilon(1e-10),
    ),
    form=lambda hyperparameters, convention: FORM,
    vector_form=lambda hyperparameters, convention: VECTOR_FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="Muon",
        direction="history: the moving average of a matrix's gradients, made orthogonal",
        step_size="one for each matrix: every singular direction moves by about lr",
        fixes="updates of low rank, in which a few directions take all of the step",
        strengths="fewer steps than AdamW on language models, with one state a parameter",
        weaknesses="matrix products in every step; only for hidden matrices, the rest needs AdamW beside it",
        use_for="hidden layers of transformers and MLPs",
    ),
    paper="Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; match_rms: Liu et al. 2025, Muon is "
    "Scalable for LLM Training",
    adaptive=True,
    decay="decoupled",
    notes="Every array of two dimensions is orthogonalised: give embeddings and the output layer a group of their own with "
    "rule adamw. PyTorch's class iterates in bfloat16, here it is the parameter's dtype. What is not a matrix keeps AdamW's two "
    "states.",
)
