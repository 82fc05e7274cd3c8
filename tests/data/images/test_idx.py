import numpy as np
import pytest

from lockstep.data.images.idx import IdxFile, encode_idx


def test_idx_goes_both_ways_and_refuses_what_it_is_not(tmp_path):
    array, path = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), tmp_path / "file"
    path.write_bytes(encode_idx(array))
    file = IdxFile.open(path)
    assert np.array_equal(file.first(2), array)
    assert np.array_equal(file.rows(np.array([1, 0, 1])), array[[1, 0, 1]])
    for content in (b"", b"\x1f\x8b\x08\x00", b"\0\0\x08\0", encode_idx(array)[:9], encode_idx(array) + b"x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="IDX"):
            IdxFile.open(path)
    path.write_bytes(encode_idx(array)[:-1])
    with pytest.raises(OSError, match="has become shorter"):
        file.rows(np.array([0, 1]))
