"""Titles and files of pictures."""

import warnings

import pytest

from lockstep.report.figures.figure_style import new_figure, picture_of, save_figure, shortened


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_sets_the_format(tmp_path, suffix, start):
    path = tmp_path / f"figure.{suffix}"
    save_figure(new_figure(2, 1, "a run named $\\x$"), path)
    assert path.read_bytes().startswith(start)


def test_a_title_in_a_script_that_the_font_lacks_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(new_figure(2, 1, "日本"), tmp_path / "figure.png")
        picture_of(new_figure(2, 1, "日本"))


def test_a_long_name_keeps_both_ends():
    assert shortened("mnist-cnn-1f0c9a2b", 18) == "mnist-cnn-1f0c9a2b"
    assert shortened("mnist-cnn-1f0c9a2b", 9) == "mnis…9a2b"
