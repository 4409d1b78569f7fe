"""`Optimizer`: a torch.optim.Optimizer whose step is our kernels, in place on torch's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer as base

from optadvisor.config import HYBRID
from optadvisor.frameworks.torch import memory, twins
from optadvisor.frameworks.torch.loading import check_loaded
from optadvisor.frameworks.torch.placement import Placement, name_of
from optadvisor.frameworks.torch.settings import complete
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.optimizer import ON_NONFINITE


class Optimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Update the tensors of a model by one of the rules of `optadvisor.kernels.RULES`, as torch.optim's classes do.

    rule: id such as "adamw"; "hybrid" where every group names its own. params: an nn.Module, tensors, (name, tensor)
    pairs, or groups, a list of dicts {"params": ..., "rule": ..., hyperparameters}, such as `config.param_groups(model)`
    makes. Tensors are float32 or float64, on the CPU or on one GPU (there float16 and bfloat16 too, with float32
    master weights in the state); their gradients may be torch.sparse_coo rows where the rule has a form for them.
    hyperparameters: the rule's keywords, PyTorch's spellings; tensors of one element as well. They are read from
    `param_groups` in every step, so schedulers work. convention: whose form of the rule, "pytorch" where nothing is
    said. maximize: go up instead of down. on_nonfinite: what a NaN or Inf in a gradient does: "ignore" (no check, as in
    torch.optim: GradScaler and clipping look for themselves), "raise" NonFiniteGradient before anything changes, or
    "skip" the step. foreach and fused, which choose an implementation in torch.optim, are accepted and do nothing;
    capturable and differentiable are refused.

    `state[p]` holds tensors over the kernels' own memory, under the names of torch.optim's class of the same rule:
    state_dict and load_state_dict exchange with it in both directions. A parameter without a gradient keeps its value,
    its state and its step count.

    Errors: InputError (a ValueError) that names the parameter, group or keyword, its value and the remedy.
    Formulas and papers: `optadvisor explain RULE`.
    """

    def __init__(
        self,
        rule: str,
        params: nn.Module | Iterable[Any],
        *,
        convention: str | None = None,
        on_nonfinite: str = "ignore",
        maximize: bool = False,
        **hyperparameters: Any,
    ) -> None:
        if on_nonfinite not in ON_NONFINITE:
            raise unknown("on_nonfinite", on_nonfinite, ON_NONFINITE)
        self.on_nonfinite = on_nonfinite
        self._rule = None if rule == HYBRID else rules.get(rule)
        self._placement: Placement | None = None
        defaults = {"maximize": maximize, **hyperparameters}
        if convention is not None:
            defaults["convention"] = convention
        if self._rule is None and (hyperparameters or convention):
            found = sorted(defaults.keys() - {"maximize"})
            raise InputError(f"hybrid has no hyperparameters of its own, found {found}: put them in its groups")
        if self._rule is not None:
            complete(defaults, self._rule, {}, rule)
        super().__init__(params.named_parameters() if isinstance(params, nn.Module) else params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group {"params": ..., "rule": ..., hyperparameters}; what it leaves out is as the optimizer was told."""
        number = len(self.param_groups)
        if isinstance(param_group, dict):
            complete(param_group, self._rule, self.defaults, f"group {number}")
            given = dict(param_group)
        super().add_param_group(param_group)
        for key in [key for key in param_group if key in self.defaults and key not in given]:
            del param_group[key]  # a hyperparameter of the optimizer's rule, which is not the group's
        for i, p in enumerate(param_group["params"]):
            if not isinstance(p, nn.parameter.UninitializedTensorMixin):
                try:
                    memory.check(p, name_of(param_group, number, i))
                except InputError:
                    self.param_groups.pop()
                    raise

    # torch.optim wraps `step` into a profiler's label and the calls of its hooks, 6 us a step where neither is used. This
    # one says that it is wrapped (`hooked`) and goes that way only where somebody looks.
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. closure: computes gradients and returns the loss, which is returned."""
        watched = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or base._global_optimizer_pre_hooks
            or base._global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        )
        if watched:
            return self._watched_step(*(() if closure is None else (closure,)))
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # None while it works: after an error the next step places the kernels anew, from what the tensors then say.
        placement, self._placement = self._placement, None
        if placement is None or not placement.step(self.param_groups, self.state):
            with torch.no_grad():
                placement = Placement(self.param_groups, self.state, self.on_nonfinite)
            placement.step(self.param_groups, self.state)
        self._placement = placement
        return loss

    _watched_step = torch.optim.Optimizer.profile_hook_step(_step)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (set_to_none), or fill them with zeros."""
        if not set_to_none or torch.autograd._profiler_enabled():
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """As torch.optim's: {"state", "param_groups"}, with the tensors of the state, not copies."""
        self._derive()
        found: dict[str, Any] = super().state_dict()
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict of this class, or of torch.optim's class of the same rule.

        Errors: InputError, and nothing changed, where it belongs to another rule or another model.
        """
        super().load_state_dict(state_dict)
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=True):
            for key, p in zip(saved["params"], group["params"], strict=True):
                if p.dtype in memory.HALVES and state_dict["state"].get(
                    key
                ):  # PyTorch rounded it to the parameter's dtype
                    self.state[p].update(
                        (name, value.to(p.device, copy=True))
                        for name, value in state_dict["state"][key].items()
                        if isinstance(value, Tensor) and name != "step"
                    )

    def evaluation(self) -> list[Tensor]:
        """The weights to evaluate and to keep, new tensors in the order of the groups' params.

        They differ from the parameters for schedule_free_adamw, whose parameters are the point of the gradient.
        """
        values = {id(p): p for group in self.param_groups for p in group["params"]}
        for bound in self._placement.bounds if self._placement else ():
            for i, (p, layout) in enumerate(zip(bound.params, bound.layouts, strict=True)):
                values[id(p)] = layout.outer(memory.tensor_over(bound.group.evaluated(i), p))
        return [values[id(p)].detach().clone() for group in self.param_groups for p in group["params"]]

    def _derive(self) -> None:
        """Write what torch.optim's class keeps and the kernels have in closed form."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.get(p)
                if state and "step" in state:
                    found = twins.derived(rules.get(group["rule"]), group, float(state["step"]))
                    state.update({name: torch.tensor(value) for name, value in found.items()})

    def __getstate__(self) -> dict[str, Any]:
        self._derive()
        return {**super().__getstate__(), "on_nonfinite": self.on_nonfinite, "_rule": self._rule and self._rule.id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Used by load_state_dict, with groups and state alone, and by pickle and deepcopy, with everything."""
        if "_rule" in state:
            state = {**state, "_rule": state["_rule"] and rules.get(state["_rule"])}
        else:
            state = {**state, "param_groups": check_loaded(state, self.param_groups)}
        super().__setstate__(state)
        self._placement = None
