import pytest
import torch

from lockstep.config import ModelConfig, TrainConfig
from lockstep.engine import take_step
from lockstep.errors import ConfigError
from lockstep.models import KeyedDropout
from lockstep.plan import Purpose, random_words
from runs import record_gradients, small_config, small_run


def test_masks_are_keyed_by_sample():
    layer = KeyedDropout(p=0.25)
    ids = torch.tensor([5, 9, 5, -1])
    x = torch.ones(4, 301)
    layer.draw_for(7, 0, 3, ids)
    first = layer(x)
    assert torch.equal(first, layer(x))
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    for seed, number, step in ((8, 0, 3), (7, 1, 3), (7, 0, 4)):
        layer.draw_for(seed, number, step, ids)
        assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


def test_it_keeps_the_mean():
    layer = KeyedDropout(0.25)
    layer.draw_for(0, 0, 0, torch.arange(4000))
    dropped = layer(torch.ones(4000, 100))
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.003)


def test_pictures_are_refused():
    with pytest.raises(
        ConfigError, match=r"KeyedDropout's input = \(2, 1, 28, 28\): must be \(batch, units\)"
    ):
        KeyedDropout(0.5).eval()(torch.zeros(2, 1, 28, 28))


def test_one_changed_bit_of_a_draw_changes_the_gradient(monkeypatch):
    def gradient():
        config = small_config(model=ModelConfig(name="mlp", dropout=0.3), train=TrainConfig(steps=1))
        run, _ = small_run(config)
        gradients = record_gradients(run)
        take_step(run)
        return gradients[0]["linear3.weight"]

    before = gradient()
    assert torch.equal(gradient(), before)

    def changed(seed, purpose, time, ids, block=0):
        words = random_words(seed, purpose, time, ids, block)
        return (words[0] ^ (1 << 31), *words[1:]) if purpose >= Purpose.DROPOUT else words

    monkeypatch.setattr("lockstep.models.keyed_dropout.random_words", changed)
    assert not torch.equal(gradient(), before)
