import itertools

import pytest
import torch

from lockstep.engine import OPTIMIZERS, off_formula

TORCHS_OWN = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def off_by(kind, size, fused, weight_decay, **options):
    """How far torch's optimizer is from the formula, at most, over some steps."""
    generator = torch.Generator().manual_seed(size)
    theta = torch.nn.Parameter(torch.randn(size, generator=generator))
    optimizer = TORCHS_OWN[kind]([theta], lr=0.0123, weight_decay=weight_decay, fused=fused, **options)
    worst = 0.0
    for _ in range(5):
        theta.grad = torch.randn(size, generator=generator)
        before = theta.detach().clone()
        state = {key: value.clone() for key, value in optimizer.state[theta].items() if value is not None}
        optimizer.step()
        answers = OPTIMIZERS[kind].formula(before, theta.grad, state, optimizer.param_groups[0])
        worst = max(worst, off_formula(theta.detach(), answers))
    return worst


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [1, 3, 10, 128, 1003])
def test_formulas_are_those_of_torch(size, fused):
    for weight_decay, momentum in itertools.product((0, 0.01), (0, 0.9)):
        assert off_by("sgd", size, fused, weight_decay, momentum=momentum) == 0
    for kind, weight_decay in itertools.product(("adam", "adamw"), (0, 0.01)):
        assert 0 < off_by(kind, size, fused, weight_decay) < 16


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_wrong_update_is_seen(kind):
    before, gradient = torch.ones(100), torch.linspace(0.1, 1, 100)
    theta = torch.nn.Parameter(before.clone())
    theta.grad = gradient
    optimizer = TORCHS_OWN[kind]([theta], lr=0.01)
    optimizer.step()
    answers = OPTIMIZERS[kind].formula(before, gradient, {}, optimizer.param_groups[0])
    after = theta.detach().clone()
    assert off_formula(after, answers) <= (0 if kind == "sgd" else 2)
    after[17] = after[17] * (1 + 1e-6)
    assert off_formula(after, answers) >= 7
