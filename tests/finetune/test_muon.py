"""The joint optimizer against torch's two, each on its own parameters."""

from __future__ import annotations

import copy

import torch
from torch import nn

from codegen.finetune import parse_recipe
from codegen.finetune.sft import muon_and_adamw

RECIPE = parse_recipe(
    {"model": "embedded", "data": "d", "output": "o", "steps": 10, "optimizer": "muon"}
    | {"muon_rate": 0.02, "learning_rate": 0.01, "weight_decay": 0.1}
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 6)
        self.part = nn.Module()
        self.part.layers = nn.ModuleList([nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)])
        self.head = nn.Linear(6, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids)
        for layer in self.part.layers:  # type: ignore[union-attr]
            x = layer(x).tanh()  # pyrefly: ignore[not-callable]
        return nn.functional.cross_entropy(self.head(x), ids.roll(1))


def test_each_parameter_has_its_optimizer() -> None:
    torch.manual_seed(0)
    net, ids = Net(), torch.arange(7)
    other = copy.deepcopy(net)
    joint = muon_and_adamw(net, RECIPE.muon_rate, RECIPE.learning_rate, RECIPE.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(joint, lambda step: 1 - step / 10)
    matrices = [
        p for n, p in other.named_parameters() if n.startswith("part.layers") and p.dim() == 2
    ]
    assert len(matrices) == 2
    rest = [p for p in other.parameters() if all(p is not matrix for matrix in matrices)]
    parts = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1),
    ]
    for step in range(6):
        if step == 3:  # as a resumed run does
            state = copy.deepcopy(joint.state_dict())
            joint = muon_and_adamw(net, RECIPE.muon_rate, RECIPE.learning_rate, RECIPE.weight_decay)
            last = schedule.state_dict()
            schedule = torch.optim.lr_scheduler.LambdaLR(joint, lambda step: 1 - step / 10)
            schedule.load_state_dict(last)
            joint.load_state_dict(state)
        for part, rate in zip(parts, (0.02, 0.01), strict=True):
            part.param_groups[0]["lr"] = rate * (1 - step / 10)
            part.zero_grad()
        other(ids).backward()
        joint.zero_grad()
        net(ids).backward()
        joint.step()
        schedule.step()
        for part in parts:
            part.step()
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
