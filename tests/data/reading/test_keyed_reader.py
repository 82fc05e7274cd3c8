"""Batches of a Dataset: what they draw depends on their place alone, and a bad sample is named."""

import pickle
import random
import sys
from contextlib import ExitStack
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset, default_collate

import reading_tasks
from lockstep.config import BatchConfig, DataConfig
from lockstep.data import chunks_of, samples_of
from lockstep.data.reading.generators import seeded_transforms
from lockstep.data.reading.keyed_reader import KeyedReader, reads_many
from lockstep.data.reading.sample_trees import first_difference
from lockstep.errors import ConfigError, DataError
from lockstep.plan import Plan

CPU = torch.device("cpu")
TASKS = ("noise", "crops", "albumented", "mixup", "together")
IDS = [4, 0, 9]


def reader_of(dataset, collate=default_collate, **options):
    return KeyedReader(field="task.train", dataset=dataset, collate=collate, seed=5, **options)


def windows_of(name, num_workers, rank=0, world_size=1, first_step=0, count=7):
    task = getattr(reading_tasks, name)()
    config = DataConfig(num_workers=num_workers)
    samples = samples_of("task.train", task.train(), 3, task.collate, config=config)
    plan = Plan(
        seed=3,
        num_samples=len(samples),
        batch=BatchConfig(global_size=16, micro_size=4),
        world_size=world_size,
    )
    with ExitStack() as closing:
        windows = list(islice(samples.windows(plan, rank, first_step, closing), count))
        return {(batch.step, batch.slot): batch for window in windows for batch in window}


@pytest.mark.parametrize("name", TASKS)
def test_a_micro_batch_is_the_same_in_any_process_on_any_topology(name):
    alone = windows_of(name, 0)
    others = [
        windows_of(name, 0, 1, 2),
        windows_of(name, 2, 0, 2),
        windows_of(name, 2, first_step=4, count=3),
    ]
    assert sum(len(batches) for batches in others) > len(alone)
    for batches in others:
        for place, batch in batches.items():
            for field in ("ids", "inputs", "targets"):
                assert torch.equal(getattr(batch, field), getattr(alone[place], field)), (place, field)
    epochs: list[dict[int, torch.Tensor]] = [{}, {}, {}]
    for (step, _), batch in alone.items():
        epochs[step // 3].update(zip(batch.ids.tolist(), batch.inputs, strict=True))
    first, second, _ = epochs
    assert len(first) == len(second) == 44
    num_equal = sum(torch.equal(row, second[number]) for number, row in first.items())
    assert num_equal < 10  # a few draws may coincide, such as the offset of a crop


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluations_read_the_same_each_time_and_share_the_chunks(num_workers):
    dataset = reading_tasks.WithNoise(13)
    samples = samples_of("task.test", dataset, 3, config=DataConfig(num_workers=num_workers))
    expected = torch.cat([samples_of("task.test", dataset, 3).read(torch.arange(13))[0]])
    with ExitStack() as closing:
        shares = [chunks_of(samples, 3, rank, 2, closing) for rank in range(2)]
        for _ in range(2):
            for chunks in shares:
                assert chunks.num_chunks == 5
                for ids, (inputs, targets) in zip(chunks.ids, chunks.batches, strict=True):
                    assert torch.equal(inputs, expected[list(ids)])
                    assert targets.tolist() == [index % 3 for index in ids]


def test_reading_leaves_the_process_as_it_was():
    reader = reader_of(reading_tasks.WithNoise(), reading_tasks.mixed_up)
    states = random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist()
    torch.set_num_threads(2)
    reader.training_batch(0, 0, 0, IDS)
    reader.evaluation_batch(IDS)
    reader.difference(IDS)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert num_threads == 2
    assert states == (random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist())


def test_a_sum_has_the_bits_of_one_thread():
    class Sums:
        def __getitem__(self, index):
            return torch.rand(400_000).sum(), torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        _, threads = reader_of(Sums()).training_batch(0, 0, 0, IDS)
    finally:
        torch.set_num_threads(1)
    assert threads.tolist() == [1, 1, 1]


def test_samples_that_are_read_together_are_keyed_by_their_slot():
    reader = reader_of(reading_tasks.ReadTogether())
    one, again, other = (reader.training_batch(0, 0, slot, IDS)[0] for slot in (2, 2, 3))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_only_a_data_set_with_its_own_way_reads_many_at_once():
    assert not reads_many(Subset(reading_tasks.WithNoise(), [0]))
    assert not reads_many(TensorDataset(torch.ones(2)))
    assert reads_many(Subset(reading_tasks.ReadTogether(), [0]))


class Seeded:
    """A transform with a generator of its own that can be seeded."""

    def __init__(self):
        self.generator = np.random.default_rng()

    def set_random_seed(self, seed):
        assert 0 <= seed < 2**32
        self.generator = np.random.default_rng(seed)

    def __call__(self, image):
        return image + self.generator.random()


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def test_transforms_that_can_be_seeded_are_found_wherever_a_data_set_holds_them():
    transforms = [Seeded() for _ in range(5)]
    nested = Holder(transforms=[lambda x: x, {"image": transforms[1]}], target_transform=transforms[2])
    nested.itself = nested
    parts = [Holder(transform=transforms[0]), Subset(Holder(transforms=nested), [0])]
    dataset = ConcatDataset.__new__(ConcatDataset)
    dataset.datasets = [*parts, Holder(stages=(transforms[3],), samples=[transforms[4]] * 1000)]
    assert set(map(id, seeded_transforms(dataset))) == set(map(id, transforms[:4]))


def test_a_transform_that_can_be_seeded_follows_its_sample():
    reads = [
        reader_of(reading_tasks.Photographs(transform=Seeded())).training_batch(epoch, 0, 0, ids)[0]
        for epoch, ids in ((0, IDS), (0, IDS[::-1]), (1, IDS))
    ]
    assert torch.equal(reads[0], reads[1].flip(0))
    assert not torch.equal(reads[0], reads[2])


class DrawsSometimes:
    """From Python's generator for one sample, from NumPy's for another, as a transform does by chance."""

    def __init__(self):
        self.num_reads = 0

    def __getitem__(self, index):
        self.num_reads += 1
        draw = {5: random.gauss, 7: np.random.normal}.get(index)
        return torch.rand(1) + (draw(0, 1) if draw else 0), 0


def test_a_first_draw_from_a_generator_that_nothing_used_is_keyed_too():
    def row(reader, ids, place):
        return reader.training_batch(0, 0, 0, ids)[0][place]

    alone = {index: row(reader_of(DrawsSometimes()), [index], 0) for index in (5, 7)}
    data_set = DrawsSometimes()
    reader = reader_of(data_set)
    random.gauss(0, 1)  # leaves a second number, which would come without a draw
    first = row(reader, [0, 1], 0)
    assert data_set.num_reads == 2
    assert torch.equal(row(reader, [4, 5], 1), alone[5])
    assert torch.equal(row(reader, [6, 7], 1), alone[7])
    assert torch.equal(row(reader, [1, 0], 1), first)
    assert data_set.num_reads == 2 + 4 + 2 + 2


def test_a_seed_taken_from_the_state_of_a_generator_is_noticed():
    class Peeking:
        def __getitem__(self, index):
            return torch.tensor(np.random.get_state()[1][:2].astype(np.int64)), 0

    assert "sample 0 differs between two reads" in reader_of(Peeking()).difference([0, 1])


def test_what_no_seed_reaches_is_named():
    assert reader_of(reading_tasks.WithNoise(), reading_tasks.mixed_up).difference(IDS) == ""
    found = reader_of(reading_tasks.OfItsOwn()).difference(IDS)
    assert found == "sample 4 differs between two reads from equal seeds, in input['image']"

    generator = np.random.default_rng(0)

    def noisy(samples):
        inputs, targets = default_collate(samples)
        return inputs, targets + generator.random()

    found = reader_of(reading_tasks.WithNoise(), noisy).difference(IDS)
    assert found == "two batches of the same samples from equal seeds differ in target"


def test_the_first_difference_of_two_trees_is_their_path():
    one = {"a": [1, torch.zeros(2)], "b": float("nan")}
    assert first_difference(one, {"a": [1, torch.zeros(2)], "b": float("nan")}, "input") == ""
    assert first_difference(one, {"a": [1, torch.ones(2)], "b": 0.0}, "input") == "input['a'][1]"
    assert first_difference(one, {"a": [1], "b": 0.0}, "input") == "input['a']"
    assert first_difference(1, 1.0, "target") == "target"
    assert first_difference([1, 2], [12], "target") == "target"
    column, conjugate = torch.arange(6)[::2][:1], torch.tensor([1 + 2j]).conj()  # views of other memory
    assert first_difference([column, conjugate], [column + 0, conjugate.resolve_conj()], "input") == ""


class Listed:
    """A list of samples as a Dataset."""

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(0.0, 1), 3.0], r"task\.train\[1\] = 3\.0: must be a pair"),
        ([(0.0, 1), (0.0, 3)], r"task\.train\[1\] target = 3: must be an integer from 0 to 2, as task"),
        ([(0.0, 1), (0.0, torch.tensor(-1))], r"task\.train\[1\] target = -1: must be an integer"),
        ([(0.0, 1), (0.0, np.float32(1))], r"task\.train\[1\] target = 1\.0: must be an integer"),
        ([(0.0, 1), (0.0, True)], r"task\.train\[1\] target = True: must be an integer"),
        ([(0.0, 1), (0.0, np.bool_(True))], r"task\.train\[1\] target = True: must be an integer"),
        ([(0.0, 1), (0.0, "cat")], r"task\.train\[1\] target = 'cat': must be an integer"),
        ([(0.0, 1), (0.0, None)], r"task\.train\[1\] target = None: must be an integer"),
        (
            [(torch.ones(2, 3), 0), (torch.ones(2, 4), 0)],
            r"task\.train: samples 0 and 1 have different shapes, \[input, target\] = \[\(2, 3\), int\] and "
            r"\[\(2, 4\), int\]; give all the same",
        ),
        ([(object(), 0), (object(), 0)], r"samples 0, 1 cannot be made into a batch \(TypeError: "),
    ],
)
def test_bad_samples_are_named(samples, message):
    with pytest.raises(DataError, match=message):
        reader_of(Listed(*samples), num_classes=3).training_batch(0, 0, 0, [0, 1])


def test_probabilities_are_no_labels():
    reader = reader_of(Listed((0.0, [0.5, 0.5]), (0.0, [0.0, 1.5])), num_classes=2)
    assert len(reader.training_batch(0, 0, 0, [0, 1])[1]) == 2


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 2, 3]), r"task\.train\[2\] target = 3: must be an integer from 0 to 2"),
        (torch.tensor([0.0, 2.0]), r"task\.train\[0\] target = 0\.0: must be an integer"),
        (torch.tensor([True, False]), r"task\.train\[0\] target = True: must be an integer"),
    ],
)
def test_labels_in_a_tensor_are_checked_before_training(targets, message):
    with pytest.raises(ConfigError, match=message):
        samples_of("task.train", TensorDataset(torch.ones(len(targets)), targets), seed=0, num_classes=3)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_set_that_raises_shows_its_own_traceback(num_workers):
    samples = samples_of(
        "task.train", reading_tasks.Failing(7), 0, config=DataConfig(num_workers=num_workers)
    )
    plan = Plan(seed=3, num_samples=44, batch=BatchConfig(global_size=16, micro_size=4), world_size=1)
    with ExitStack() as closing, pytest.raises(DataError) as failure:
        list(islice(samples.windows(plan, 0, 0, closing), 3))
    first, second, *_, last = str(failure.value).splitlines()
    assert first.startswith("task.train: sample 7 cannot be read (reading_tasks.py line ")
    assert first.endswith(": ValueError: no picture 7)")
    assert second == "Traceback (most recent call last):"
    assert "lockstep/data" not in str(failure.value)
    assert last == "ValueError: no picture 7"


def test_what_raises_for_the_first_sample_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"task\.train: sample 0 cannot be read \(reading_tasks\.py line"):
        samples_of("task.train", reading_tasks.Failing(0), 0)


class Exiting(reading_tasks.Photographs):
    """Ends the program, as a script does that finds no file."""

    def __getitem__(self, index):
        sys.exit("no file")


def test_a_data_set_that_exits_is_named():
    with pytest.raises(DataError, match=r"task\.train: sample 4 cannot be read \(.*: SystemExit: no file\)"):
        reader_of(Exiting()).training_batch(0, 0, 0, [4])


def test_a_collate_that_makes_no_pair_is_named():
    with pytest.raises(DataError, match=r"task\.collate: must return a pair \(inputs, targets\), and it"):
        reader_of(reading_tasks.WithNoise(), lambda samples: 3).training_batch(0, 0, 0, IDS)


class TooFew(reading_tasks.Photographs):
    def __getitems__(self, ids):
        return []


def test_a_data_set_that_reads_too_few_together_is_named():
    with pytest.raises(DataError, match=r"TooFew\.__getitems__ gave 0 samples for 3 ids"):
        reader_of(TooFew()).training_batch(0, 0, 0, IDS)


def test_a_reader_that_has_read_can_be_sent_to_workers_that_are_not_forked():
    reader = reader_of(reading_tasks.WithNoise())
    first = reader.evaluation_batch(IDS)
    content = pickle.dumps(reader)
    assert b"itertools" not in content  # Python 3.14 pickles no iterator
    again = pickle.loads(content).evaluation_batch(IDS)
    assert first_difference(list(first), list(again), "batch") == ""
