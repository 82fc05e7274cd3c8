"""What a user names: image files, folders, IDX, npz and parquet files."""

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from lockstep.data import Pictures, UnreadableImage, find_files, find_pictures
from lockstep.data.images.idx import encode_idx
from lockstep.errors import ConfigError

ARRAY = np.arange(5 * 6 * 4, dtype=np.uint8).reshape(5, 6, 4)


def encoded(pixels):
    """The content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def read_all(pictures):
    """name → pixels, or what is wrong with them."""
    found = {}
    for index in range(len(pictures)):
        source, number = pictures.find(index)
        try:
            found[source.name(number)] = np.asarray(source.read(number)).tolist()
        except UnreadableImage as error:
            found[source.name(number)] = str(error)
    return found


def test_images_come_in_the_order_of_the_words_and_of_the_paths_in_a_folder(tmp_path):
    for name in ("z.png", "many/b.PNG", "many/a/c.bmp", "many/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("L", (2, 2), len(name)).save(tmp_path / name)
    (tmp_path / "d-idx3-ubyte").write_bytes(encode_idx(ARRAY))
    words = [str(tmp_path / name) for name in ("z.png", "many", "d-idx3-ubyte")]
    found = read_all(find_pictures(words))
    expected = ["z.png", "many/a/c.bmp", "many/b.PNG", *(f"d-idx3-ubyte[{index}]" for index in range(5))]
    assert list(found) == [str(tmp_path / name) for name in expected]
    assert found[words[0]] == [[5, 5], [5, 5]]
    assert list(found.values())[3:] == ARRAY.tolist()
    turned = read_all(find_pictures(words[2:], is_transposed=True))
    assert list(turned.values()) == ARRAY.transpose(0, 2, 1).tolist()
    names = [str(path.relative_to(tmp_path)) for path in find_files(words[:2])]
    assert names == ["z.png", "many/a/c.bmp", "many/b.PNG", "many/notes.txt"]


def test_npz_files(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=ARRAY, y=np.arange(5))
    assert list(read_all(find_pictures([str(path)])).values()) == ARRAY.tolist()
    np.savez(path, images=ARRAY[:2], masks=ARRAY)
    assert list(read_all(find_pictures([str(path)])).values()) == ARRAY[:2].tolist()
    np.savez(path, a=ARRAY, b=ARRAY)
    with pytest.raises(ConfigError, match="has several arrays of images, a, b; keep one"):
        find_pictures([str(path)])


def test_parquet_files(tmp_path):
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    path = tmp_path / "a.parquet"
    pixels = [Image.fromarray(each) for each in ARRAY]
    features = datasets.Features({"picture": datasets.Image(), "number": datasets.Value("int64")})
    rows = {"picture": pixels, "number": list(range(5))}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    found = read_all(find_pictures([str(path)]))
    assert list(found) == [f"{path}[{index}]" for index in range(5)]
    assert list(found.values()) == ARRAY.tolist()


@pytest.mark.parametrize("is_pair", [True, False])
def test_encoded_images_in_a_parquet_file_need_no_metadata(tmp_path, is_pair):
    pytest.importorskip("datasets", exc_type=ImportError)
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    files = [encoded(each) for each in ARRAY]
    column = [{"bytes": file, "path": None} for file in files] if is_pair else files
    parquet.write_table(pyarrow.table({"picture": column, "number": list(range(5))}), path)
    assert list(read_all(find_pictures([str(path)])).values()) == ARRAY.tolist()
    other = tmp_path / "b.parquet"
    parquet.write_table(pyarrow.table({"picture": [b"no image", files[1]]}), other)
    assert list(read_all(find_pictures([str(other)])).values()) == [
        "cannot identify image file",
        ARRAY[1].tolist(),
    ]
    other = tmp_path / "c.parquet"
    parquet.write_table(pyarrow.table({"number": list(range(5))}), other)
    with pytest.raises(ConfigError, match=r"no column of images, .*; its columns are number"):
        find_pictures([str(other)])


def test_a_parquet_file_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the package datasets; .*lockstep-trainer\[datasets\]"):
        find_pictures([str(tmp_path / "a.parquet")])


def test_damaged_files_are_one_unreadable_image_each(tmp_path):
    np.savez(tmp_path / "floats.npz", x=ARRAY.astype(float))
    np.savez(tmp_path / "fine.npz", x=ARRAY)
    (tmp_path / "short.npz").write_bytes((tmp_path / "fine.npz").read_bytes()[:60])
    (tmp_path / "short-idx3-ubyte").write_bytes(encode_idx(ARRAY)[:-1])
    (tmp_path / "labels-idx1-ubyte").write_bytes(encode_idx(ARRAY[0, 0]))
    Image.new("L", (50, 50)).save(tmp_path / "whole.png")
    (tmp_path / "short.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    parts = {
        "floats.npz": r"holds no images, .* but x float64 \(5, 6, 4\)",
        "short.npz": "not a zip file",
        "short-idx3-ubyte": "the IDX header says",
        "labels-idx1-ubyte": r"holds uint8 \(4,\), not images",
        "short.png": "truncated|broken|cannot identify",
        "empty.png": "cannot identify image file",
    }
    found = read_all(find_pictures([str(tmp_path / name) for name in parts]))
    for name, part in parts.items():
        damage = found[str(tmp_path / name)]
        assert isinstance(damage, str), name
        assert re.search(part, damage), damage


def test_words_that_name_nothing(tmp_path):
    for find in (find_pictures, find_files):
        with pytest.raises(ConfigError, match=r"WHAT = .*nowhere.*: there is no such file or folder"):
            find([str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match="holds no image files"):
        find_pictures([str(tmp_path)])
    with pytest.raises(ConfigError, match="holds no files"):
        find_files([str(tmp_path)])


def test_images_of_formats_that_begin_with_zeros_are_no_idx_files(tmp_path):
    for name in ("a.ico", "a.jp2", "a.tga"):
        Image.new("L", (16, 16), 7).save(tmp_path / name)
        assert (tmp_path / name).read_bytes()[:2] == b"\0\0"
        (pixels,) = read_all(find_pictures([str(tmp_path / name)])).values()
        assert not isinstance(pixels, str), pixels


def test_finding_an_image_does_not_count_all_others():
    counted = []

    class Source:
        def __len__(self):
            counted.append(self)
            return 2

    pictures = Pictures(sources=[Source() for _ in range(10)])
    found = [pictures.find(index) for index in range(20)]
    assert [number for _, number in found] == [0, 1] * 10
    assert [source for source, _ in found[::2]] == pictures.sources
    assert len(counted) == 10
