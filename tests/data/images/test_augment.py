import math
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, AugmentConfig, BatchConfig
from lockstep.data import build_augment, normalised, resident_spans, windows
from lockstep.data.images import augment as augment_module
from lockstep.data.images.augment import Augment
from runs import small_config, small_run

ALL = AugmentConfig(shift_pixels=2, rotate_degrees=10, scale=0.1, cutout_pixels=6)


def images_with_a_dot(count, row=14, column=14):
    images = torch.zeros(count, 1, IMAGE_SIZE, IMAGE_SIZE)
    images[:, 0, row, column] = 1
    return images


def test_draws_are_uniform_and_independent():
    draws = Augment(config=ALL, seed=5).draws(0, torch.arange(20_000))
    for column in draws.T:
        counts = torch.histc(column, bins=20, min=0, max=1)
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # 19 degrees of freedom, p = 0.001
    # With each other, and with those of the next sample.
    correlation = torch.corrcoef(torch.cat([draws.T, draws.roll(1, 0).T]))
    assert (correlation - torch.eye(12)).abs().max() < 4 / 20_000**0.5
    other = Augment(config=ALL, seed=5).draws(1, torch.arange(20_000))
    assert torch.corrcoef(torch.stack([draws[:, 0], other[:, 0]]))[0, 1].abs() < 4 / 20_000**0.5


def test_shift_moves_by_whole_pixels_all_equally_often():
    augment = Augment(config=AugmentConfig(shift_pixels=2), seed=1)
    moved = augment.apply(images_with_a_dot(5000), augment.draws(0, torch.arange(5000)))
    assert moved.amax(dim=(1, 2, 3)).min() > 0.999  # a whole pixel stays sharp
    pixels = moved.flatten(1).argmax(dim=1)
    counts = torch.stack([pixels // IMAGE_SIZE, pixels % IMAGE_SIZE]).sub(12)
    assert counts.min() == 0
    assert counts.max() == 4
    for axis in counts:
        assert ((axis.bincount(minlength=5) - 1000.0) ** 2 / 1000).sum() < 18.5  # 4 degrees of freedom


def test_no_draw_shifts_too_far():
    augment = Augment(config=AugmentConfig(shift_pixels=1), seed=1)
    draws = torch.tensor([0.0, 2**-24, 1 - 2**-24]).repeat_interleave(6).reshape(3, 6)
    pixels = augment.apply(images_with_a_dot(3), draws).flatten(1).argmax(dim=1)
    assert (pixels // IMAGE_SIZE - 14).tolist() == (pixels % IMAGE_SIZE - 14).tolist() == [1, 1, -1]


def test_cutout_blanks_one_square():
    augment = Augment(config=AugmentConfig(cutout_pixels=6), seed=1)
    blanked = augment.apply(torch.ones(4000, 1, IMAGE_SIZE, IMAGE_SIZE), augment.draws(0, torch.arange(4000)))
    assert torch.equal((blanked == 0).sum(dim=(1, 2, 3)), torch.full((4000,), 36))
    assert (blanked == 0).any(dim=(0, 1)).all()  # everywhere, in some image


def test_rotation_and_scale_keep_the_middle():
    augment = Augment(config=AugmentConfig(rotate_degrees=30, scale=0.2), seed=1)
    image = torch.zeros(50, 1, IMAGE_SIZE, IMAGE_SIZE)
    image[:, :, 10:18, 10:18] = 1
    changed = augment.apply(image, augment.draws(0, torch.arange(50)))
    assert (changed[:, :, 13:15, 13:15] > 0.99).all()
    areas = changed.sum(dim=(1, 2, 3))
    assert 64 * 0.6 < areas.min() < 60
    assert 70 < areas.max() < 64 * 1.6


def test_without_changes_there_is_no_augmentation():
    assert build_augment(AugmentConfig(), seed=0) is None


def test_a_sample_gets_the_same_draw_in_any_micro_batch_and_after_any_resume():
    def images_of_step(micro_size, first_step):
        config = small_config(augment=ALL, batch=BatchConfig(global_size=64, micro_size=micro_size))
        run, _ = small_run(config)
        augment = build_augment(config.augment, config.seed)
        read = run.train_samples.images.read
        spans = resident_spans(read, run.plan, 0, first_step, torch.device("cpu"))
        window = next(windows(spans, run.plan, 0, first_step, prepare=normalised, augment=augment))
        ids = torch.cat([batch.ids for batch in window])
        return ids, torch.cat([batch.inputs for batch in window])

    ids, whole = images_of_step(64, 3)
    assert torch.equal(images_of_step(8, 3)[0], ids)
    assert torch.equal(images_of_step(8, 3)[1], whole)


def test_a_window_changes_its_images_at_once_and_as_torchs_affine_grid_does(monkeypatch):
    """The grid has the bits of F.affine_grid on a CPU, so weights of earlier versions stay the same."""
    config = small_config(augment=AugmentConfig(shift_pixels=2, rotate_degrees=10, scale=0.1))
    calls = []

    def sample(images, grid, **options):
        calls.append((images, grid))
        return F.grid_sample(images, grid, **options)

    monkeypatch.setattr(augment_module, "F", SimpleNamespace(grid_sample=sample))
    run, _ = small_run(config)
    with run.closing:
        assert len(next(run.windows)) == 4
    ((images, grid),) = calls
    assert len(images) == 64
    draws = Augment(config=config.augment, seed=config.seed).draws(0, torch.from_numpy(run.plan.step_ids(0)))
    signed = draws.flatten(0, 1) * 2 - 1
    angle, zoom = signed[:, 2] * math.radians(10), 1 + signed[:, 3] * 0.1
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    shift = (signed[:, :2] * 2.5).round() * (2 / IMAGE_SIZE)
    theta = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], 1).view(-1, 2, 3)
    assert torch.equal(grid, F.affine_grid(theta, list(images.shape), align_corners=False))


def test_crop_and_mirror_copy_whole_pixels():
    augment = Augment(config=AugmentConfig(crop_pixels=2, flip=True), seed=1)
    images = torch.arange(3 * 6 * 6).float().reshape(1, 3, 6, 6).expand(600, -1, -1, -1) + 1
    draws = augment.draws(0, torch.arange(600))
    changed = augment.apply(images, draws)
    padded = torch.nn.functional.pad(images[:1], (2, 2, 2, 2))[0]
    places = set()
    for image in changed:
        found = [
            (row, column, mirrored)
            for row in range(5)
            for column in range(5)
            for mirrored in (False, True)
            if torch.equal(
                image.flip(-1) if mirrored else image, padded[:, row : row + 6, column : column + 6]
            )
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 50
    assert 250 < int((draws[:, 8] < 0.5).sum()) < 350


def test_crop_and_mirror_leave_the_other_draws_alone():
    ids = torch.arange(100)
    before = Augment(config=ALL, seed=5).draws(3, ids)
    after = Augment(config=AugmentConfig(crop_pixels=2, flip=True), seed=5).draws(3, ids)
    assert torch.equal(after[:, :6], before)
    alone = Augment(config=AugmentConfig(flip=True), seed=5).apply(torch.rand(100, 2, 8, 8), after)
    assert alone.shape == (100, 2, 8, 8)
