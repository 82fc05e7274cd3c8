"""A model and data of your own: the 8 x 8 digits of scikit-learn and a small network with BatchNorm.

Run it in any of these ways; each ends with the same weights:

    python examples/own_model_and_data.py
    torchrun --standalone --nproc_per_node 2 examples/own_model_and_data.py
    accelerate launch --multi_gpu --num_processes 4 examples/own_model_and_data.py

Needs scikit-learn, which holds the data: pip install scikit-learn
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import lockstep

NUM_TRAIN = 1400


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16 * 6 * 6, 10),
    )


def make_data(first: int, stop: int) -> TensorDataset:
    digits = load_digits()
    images = torch.tensor(digits.images[first:stop], dtype=torch.float32).unsqueeze(1) / 16
    return TensorDataset(images, torch.tensor(digits.target[first:stop]))


task = lockstep.Task(
    name="small-digits",
    model=make_model,
    train=lambda: make_data(0, NUM_TRAIN),
    test=lambda: make_data(NUM_TRAIN, 1797),
    loss=nn.CrossEntropyLoss(reduction="none"),
    metrics={"accuracy": lockstep.accuracy},
    headline="accuracy",
    higher_is_better=True,
    classes=[str(digit) for digit in range(10)],
)

config = lockstep.Config(
    batch=lockstep.BatchConfig(global_size=64, micro_size=16),
    train=lockstep.TrainConfig(epochs=5),
)

if __name__ == "__main__":
    result = lockstep.train(task, config)
    model = lockstep.load(task, result.folder)
    images, labels = make_data(NUM_TRAIN, NUM_TRAIN + 8).tensors
    print("labels     ", labels.tolist())
    print("predictions", model(images).argmax(dim=1).tolist())
