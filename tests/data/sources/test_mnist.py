import io
import pickle

import numpy as np
import pytest

from image_files import put
from lockstep.data.images.idx import IdxFile
from lockstep.data.sources.mnist import MNIST_SHA256, ArrayUnpickler, files_from_pickle


def test_pickle_becomes_idx_files(tmp_path):
    rng = np.random.default_rng(0)
    splits = []
    for count in (5, 3, 2):
        pixels = rng.integers(0, 256, (count, 784)).astype(np.float32) / 256
        splits.append((pixels, rng.integers(0, 10, count)))
    content = pickle.dumps(tuple(splits), protocol=3).replace(b"numpy._core", b"numpy.core")
    files = files_from_pickle(content)
    assert set(files) == set(MNIST_SHA256)
    put(tmp_path, files)
    images = IdxFile.open(tmp_path / "train-images-idx3-ubyte").first(8)
    assert np.array_equal(images.reshape(8, 784), np.concatenate([splits[0][0], splits[1][0]]) * 256)
    assert IdxFile.open(tmp_path / "t10k-labels-idx1-ubyte").first(2).tolist() == splits[2][1].tolist()


class Evil:
    def __reduce__(self):
        return (print, ("built",))


def test_unpickler_builds_nothing_but_arrays(capsys):
    with pytest.raises(pickle.UnpicklingError, match="refused to build"):
        ArrayUnpickler(io.BytesIO(pickle.dumps(Evil(), protocol=2))).load()
    assert capsys.readouterr().out == ""
