r"""The SequenceMatch loss: cross entropy and a penalty that ties a state's value to the next one's.

Source: Cundy and Ermon, "SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling
with Backtracking", ICLR 2024 (arXiv 2306.05426), sections 3 and 4; inverse soft Q-learning (Garg et
al. 2021, arXiv 2106.12142) and its mixture form (Al-Hafez et al. 2023, arXiv 2303.00599).

A model's logits are Q-values: ``Q(s, a) = l(a | s)``, ``V(s) = logsumexp_a l(a | s)``. With
``x_t = l(a_t | s_t) - gamma V(s_{t+1})`` and a concave phi, the objective to maximise is

    J = E_data[ sum_t gamma^t phi(x_t) + gamma^N / (1 - gamma) phi(x_end) ] - V(s_0)

with ``x_end = (1 - gamma) V_end`` of the absorbing state behind EOS, N the number of actions. The
*chi-squared mixture*, the paper's choice, has ``phi(x) = x - alpha/4 x^2`` on data and the same
quadratic term on the model's own trajectories.

Since ``sum_t gamma^t x_t`` telescopes, with ``phi(x) = x - g(x)`` the loss is (:func:`terms`)

    -J = - sum_t gamma^t log p(a_t | s_t) + sum_t gamma^t g(x_t) + gamma^N / (1 - gamma) g(x_end)

exactly, for whole trajectories and, without the last term, for ones that are cut off. alpha = 0 and
gamma = 1 give maximum likelihood. :func:`long_form` computes J as the paper has it, for tests.

Gradients go through ``V(s_{t+1})``. The label stands for ``a_t`` where noise executed another
token, and ``s_{t+1}`` is the state that was really reached (section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["chi2_mixture", "chi2", "kl"]
Terminal = Literal["eos", "zero"]


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised.

    Attributes:
        alpha: weight of the entropy, and so of the penalty; 0.01 in the paper.
        gamma: discount, below 1 unless alpha is 0; 0.998 in the paper.
        divergence: ``chi2_mixture``, ``chi2`` (data alone) or ``kl`` (data alone).
        terminal: the value of the state behind EOS: the logsumexp at EOS's own slot, or 0.
    """

    alpha: float = 0.01
    gamma: float = 0.998
    divergence: Divergence = "chi2_mixture"
    terminal: Terminal = "eos"

    def penalty(self, x: Tensor) -> Tensor:
        """g(x) = x - phi(x), at least 0, of the shape of x."""
        if self.alpha == 0:
            return x.new_zeros(()).expand_as(x)
        if self.divergence == "kl":  # phi(x) = (1 - exp(-alpha x)) / alpha
            # Linear beyond where the exponential would be all that counts.
            power = (-self.alpha * x).clamp(max=20.0)
            return x + power.expm1() / self.alpha
        return self.alpha / 4 * x**2


class Actions(NamedTuple):
    """T actions of R trajectories, flat.

    Attributes:
        chosen: float [T], the logit of the right (or, on model trajectories, executed) action.
        value: [T], V of the state that it is chosen in.
        then: [T], V of the state that was reached.
        time: int64 [T], the action's number in its trajectory.
        trajectory: int64 [T], which of the R it belongs to.
        ends: bool [T], whether the state that was reached is the absorbing one.
    """

    chosen: Tensor
    value: Tensor
    then: Tensor
    time: Tensor
    trajectory: Tensor
    ends: Tensor


def terms(actions: Actions, objective: Objective) -> tuple[Tensor, Tensor]:
    """Discounted negative log-likelihood and penalty of each action: two [T].

    The penalty of the absorbing state is added to that of the action that leads there. The loss of
    data trajectories is the sum of both, of model trajectories the penalty's alone, and that only
    with the mixture.
    """
    discount = actions.value.new_tensor(objective.gamma) ** actions.time
    likelihood = discount * (actions.value - actions.chosen)
    if objective.alpha == 0:
        return likelihood, likelihood.new_zeros(()).expand_as(likelihood)
    then = _then(actions, objective)
    penalty = discount * objective.penalty(actions.chosen - objective.gamma * then)
    after = objective.gamma * discount / (1 - objective.gamma)  # gamma^N / (1 - gamma) at the last
    tail = after * objective.penalty((1 - objective.gamma) * then)
    return likelihood, penalty + tail.where(actions.ends, tail.new_zeros(()))


def _then(actions: Actions, objective: Objective) -> Tensor:
    if objective.terminal == "eos":
        return actions.then
    return actions.then.where(~actions.ends, actions.then.new_zeros(()))


def long_form(actions: Actions, objective: Objective, *, on_data: bool) -> Tensor:
    """-J of each trajectory as the paper has it: [R]. Slow and plain, the oracle of :func:`terms`.

    The value term is summed over the steps; for a trajectory that is cut off it ends at its last
    state, V(s_0) - gamma^N V(s_N). On model trajectories (``on_data`` false) there is the mixture's
    quadratic term alone.
    """
    import torch

    gamma, losses = objective.gamma, []
    then = _then(actions, objective)
    for number in range(int(actions.trajectory.max()) + 1):
        loss = actions.value.new_zeros(())
        for t in (actions.trajectory == number).nonzero()[:, 0].tolist():
            weight = gamma ** int(actions.time[t])
            x = actions.chosen[t] - gamma * then[t]
            loss = loss - weight * (x - objective.penalty(x)) if on_data else loss
            loss = loss + (0 if on_data else weight * objective.penalty(x))
            if on_data:
                loss = loss + weight * (actions.value[t] - gamma * then[t])
            if actions.ends[t]:
                after = gamma ** (int(actions.time[t]) + 1)
                x = (1 - gamma) * then[t]
                if on_data:
                    loss = loss - after / (1 - gamma) * (x - objective.penalty(x)) + after * then[t]
                else:
                    loss = loss + after / (1 - gamma) * objective.penalty(x)
        losses.append(loss)
    return torch.stack(losses)
