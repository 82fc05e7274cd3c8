"""Tensors side by side in one buffer a dtype."""

import pytest
import torch

from lockstep.engine.reduction.flat_buffer import ALIGNMENT_BYTES, FlatBuffer


@pytest.mark.parametrize("num_slices", [1, 2, 3, 8])
def test_views_hold_what_was_filled_in_and_share_the_buffers(num_slices):
    tensors = [
        torch.randn(3),
        torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
        torch.randn(2, 2, dtype=torch.complex64),
        torch.randn(7).bfloat16(),
        torch.randn(()),
        torch.randn(6, 4).T,
    ]
    flat = FlatBuffer(tensors, num_slices)
    flat.fill(tensors)
    assert all(torch.equal(view, tensor) for view, tensor in zip(flat.views, tensors, strict=True))
    assert [view.dtype for view in flat.views] == [tensor.dtype for tensor in tensors]
    assert {buffer.dtype for buffer in flat.buffers} == {torch.float32, torch.bfloat16}
    assert all(len(buffer) % num_slices == 0 for buffer in flat.buffers)
    for buffer in flat.buffers:
        buffer.mul_(2)
    assert all(torch.equal(view, 2 * tensor) for view, tensor in zip(flat.views, tensors, strict=True))
    flat.fill(None)
    assert not any(view.any() for view in flat.views)


def test_every_tensor_starts_aligned_whatever_the_number_of_slices():
    tensors = [torch.zeros(size) for size in (1, 127, 128, 129)]
    offsets = [[view.storage_offset() for view in FlatBuffer(tensors, n).views] for n in (1, 3, 8)]
    assert offsets[0] == offsets[1] == offsets[2]
    assert all(offset * 4 % ALIGNMENT_BYTES == 0 for offset in offsets[0])
