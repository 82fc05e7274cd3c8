import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lockstep.config import LossConfig
from lockstep.data import MicroBatch
from lockstep.errors import ConfigError
from lockstep.task import build_criterion, share_of_mean
from lockstep.task.losses import NO_TARGETS, TAKE_LABELS, TAKE_SIGNS

LOGITS = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)


def test_criteria_are_torchs():
    smooth = build_criterion(LossConfig(label_smoothing=0.1))
    assert torch.equal(
        smooth(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.1)
    )
    squared = build_criterion(LossConfig(name="mse"))
    one_hot = F.one_hot(LABELS, 10).float()
    assert squared(LOGITS, LABELS).mean() == pytest.approx(F.mse_loss(LOGITS, one_hot).item(), rel=1e-6)


def test_class_weights_give_torchs_weighted_mean():
    weights = torch.linspace(0.5, 3, 10)
    for smoothing in (0.0, 0.1):
        config = LossConfig(class_weights=tuple(weights.tolist()), label_smoothing=smoothing)
        expected = F.cross_entropy(LOGITS, LABELS, weights, label_smoothing=smoothing)
        for logits in (LOGITS, LOGITS.double(), LOGITS.bfloat16()):
            total, count = build_criterion(config)(logits, LABELS)
            assert (total.shape, count.shape) == ((), ())
            assert count == pytest.approx(weights[:6].sum().item())
            tolerance = 1e-2 if logits.dtype == torch.bfloat16 else 1e-6
            assert (total / count).item() == pytest.approx(expected.item(), rel=tolerance)


def test_class_weights_are_one_for_each_class():
    config = LossConfig(class_weights=(1.0, 2.0, 3.0))
    assert build_criterion(config, num_classes=3)
    with pytest.raises(ConfigError, match=r"loss\.class_weights = .*: must have one weight for each"):
        build_criterion(config)


ONE_HOT = F.one_hot(LABELS, 10).float()
OF_TORCH = {
    name: kind
    for name, kind in vars(nn.modules.loss).items()
    if name.endswith("Loss")
    and len(inspect.signature(kind.forward).parameters) == 3
    and name not in NO_TARGETS
}


@pytest.mark.parametrize("name", OF_TORCH)
def test_any_loss_of_torch_has_the_mean_of_torch(name):
    outputs = LOGITS.sigmoid() if name == "BCELoss" else LOGITS
    losses = build_criterion(LossConfig(name=f"torch.nn:{name}"))(outputs, LABELS)
    assert losses.shape == (6,)
    targets = LABELS if name in TAKE_LABELS else 2 * ONE_HOT - 1 if name in TAKE_SIGNS else ONE_HOT
    expected = OF_TORCH[name](reduction="none")(outputs, targets).mean()
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_arguments_of_a_loss_of_torch():
    huber = build_criterion(LossConfig(name="torch.nn:HuberLoss", args={"delta": 0.5}))
    expected = F.huber_loss(LOGITS, ONE_HOT, delta=0.5)
    assert huber(LOGITS, LABELS).mean().item() == pytest.approx(expected.item())
    assert huber(LOGITS.bfloat16(), LABELS).dtype == torch.bfloat16


def scaled(outputs, labels, scale=1.0):
    return F.cross_entropy(outputs, labels, reduction="none") * scale


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, outputs, labels):
        return scaled(outputs, labels, self.scale)


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


@pytest.mark.parametrize("name", ["scaled", "Scaled"])
def test_a_users_own_loss_takes_its_arguments(name):
    criterion = build_criterion(LossConfig(name=f"{__name__}:{name}", args={"scale": 2.0}))
    assert torch.equal(criterion(LOGITS, LABELS), 2 * F.cross_entropy(LOGITS, LABELS, reduction="none"))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("torch.nn:HubberLoss", {}, "is not a loss of torch.nn; perhaps you meant 'torch.nn:HuberLoss'"),
        ("torch.nn:Linear", {}, "is not a loss of torch.nn; "),
        ("torch.nn:CTCLoss", {}, "takes log_probs, targets, input_lengths, target_lengths, but only"),
        (
            "torch.nn:MultiLabelMarginLoss",
            {},
            "its targets are lists of classes; use torch.nn:MultiMargin",
        ),
        ("torch.nn:HuberLoss", {"dleta": 1}, "is not an argument of HuberLoss; it takes delta; perhaps you"),
        ("torch.nn:HuberLoss", {"reduction": "sum"}, "loss.args.reduction = 'sum': is passed by Lockstep"),
        ("torch.nn:CrossEntropyLoss", {"weight": [1]}, "do not fit torch.nn:CrossEntropyLoss (cannot assign"),
        (
            f"{__name__}:scaled",
            {"size": 1},
            "size = 1: is not an argument of scaled; it takes scale",
        ),
        (f"{__name__}:scaled", {"labels": 1}, "loss.args.labels = 1: is passed by Lockstep itself"),
        (f"{__name__}:Scaled", {}, "loss.args = {}: Scaled needs an argument 'scale'; state loss.args.scale"),
        (
            f"{__name__}:Learned",
            {},
            "has parameters, which no optimizer would train; put them",
        ),
        (f"{__name__}:LOGITS", {}, "is neither a function nor a subclass of torch.nn.Module"),
        (f"{__name__}:scald", {}, "perhaps you meant 'scaled'"),
    ],
)
def test_a_wrong_loss_is_one_line(name, args, message):
    with pytest.raises(ConfigError) as refusal:
        build_criterion(LossConfig(name=name, args=args))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_shares_of_short_and_whole_micro_batches_add_up_to_the_mean():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])

    def share(part):
        ids = torch.arange(len(part))
        batch = MicroBatch(inputs=ids, targets=ids, ids=ids, step=0, slot=0, weight=1 / 5, is_last=True)
        return share_of_mean(part, batch)

    assert sum(share(part).total for part in losses.split(2)) == pytest.approx(losses.mean().item())
