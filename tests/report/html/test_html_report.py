"""The HTML report: one file with all of a run, which a browser shows without a network."""

import html
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lockstep.commands.main import main
from lockstep.report.html.html_figures import comparison, confusion_figure, curves
from lockstep.report.html.html_page import THEME, drawn
from lockstep.runs.saved_evaluations import to_npz
from run_folders import SUMMARY, make_evaluation, make_record, make_run

pytest.importorskip("plotly", exc_type=ImportError)
CHROMIUM = shutil.which("chromium")
START = {
    "step": 0,
    "format": 3,
    "world_size": 2,
    "num_threads": 1,
    "device": "cpu",
    "cpu": {"model": "Abacus 5", "capability": "AVX2", "limits": {}},
    "versions": {"python": "3.14.0", "torch": "2.15.0", "accelerate": "1.15.0"},
    "git": {"commit": "a" * 40, "is_clean": True},
    "sources": {"mine": "c" * 64},
    "signature": "d" * 64,
}


def run_with_all(tmp_path, name="run <b>&"):
    """A finished run with an evaluation; its name must be escaped."""
    records = [make_record(step, accuracy=0.9 if step % 5 == 0 else None) for step in range(1, 21)]
    folder = tmp_path / name
    seconds = {"import": 2.5, "train": 10.0, "evaluate_and_save": 1.0}
    make_run(folder, records, {**SUMMARY, "phase_seconds": seconds})
    starts = [START, {**START, "step": 10, "world_size": 4, "git": {"commit": "b" * 40, "is_clean": False}}]
    (folder / "starts.jsonl").write_text("".join(f"{json.dumps(start)}\n" for start in starts))
    (folder / "profile").mkdir()
    (folder / "profile" / "rank-0.txt").write_text("operation  calls a step\naten::mm        <16>\n")
    (folder / "evaluations").mkdir()
    (folder / "evaluations" / "last.npz").write_bytes(to_npz(make_evaluation(20)))
    (folder / "evaluations" / "validation-best.npz").write_bytes(to_npz(make_evaluation(15, "validation")))
    return folder


def text_of(path):
    """The page without its script and the data of its figures."""
    page = path.read_text()
    return page, re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_the_report_has_all_parts_and_nothing_from_elsewhere(tmp_path, capsys):
    folder = run_with_all(tmp_path)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("report/index.html")
    page, text = text_of(folder / "report" / "index.html")
    parts = ["Curves", "Scores", "Confusion matrix", "Precision and recall", "Mistakes with the highest loss"]
    parts += ["Settings that differ from the defaults", "Environment", "Starts and resumes"]
    parts += ["Time by part", "Profile"]
    for part in parts:
        assert f"<h2>{part}</h2>" in text
    assert html.escape(folder.name) in text
    assert folder.name not in text
    assert "<td>model.name</td><td>mlp</td>" in text
    assert "7 → 1, p 0.950, #2" in text
    assert (
        "<td>1</td><td>1</td><td>50.00%</td><td>100.00%</td>" in text
    )  # of class 1: 2 predictions, 1 sample
    assert "<td>evaluate and save</td><td>1.0 s</td>" in text
    assert "<td>validation</td><td>best</td><td>15</td><td>4</td><td>0.9000</td><td>75.00%</td>" in text
    for name, value in {
        "torch": "2.15.0",
        "accelerate": "1.15.0",
        "python": "3.14.0",
        "processes": "4",
        "threads per process": "1",
        "CPU model": "Abacus 5",
        "commit": "bbbbbbbbbbbb (modified)",
        "source of mine": "cccccccccccc",
    }.items():
        assert f"<tr><td>{name}</td><td>{value}</td></tr>" in text
    assert "<td>0</td><td>2</td><td>cpu</td><td>1</td><td>2.15.0</td><td>aaaaaaaaaaaa</td>" in text
    assert "aten::mm        &lt;16&gt;" in text
    assert "signature" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_a_run_without_an_evaluation_has_a_report_too(tmp_path):
    folder = tmp_path / "run"
    make_run(folder, [make_record(1)])
    assert main(["report", str(folder), "--output", str(tmp_path / "out")]) == 0
    _, text = text_of(tmp_path / "out" / "index.html")
    assert "<h2>Curves</h2>" in text
    assert "Confusion" not in text


def test_runs_are_compared_on_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [str(run_with_all(tmp_path, name)) for name in ("a", "b")]
    assert main(["compare", *runs, "--html", "page.html"]) == 0
    assert capsys.readouterr().out.endswith("lockstep: wrote compare.png, page.html\n")
    _, text = text_of(tmp_path / "page.html")
    assert "<th>run</th><th>a</th><th>b</th>" in text
    assert "<td>steps</td><td>40</td><td>40</td>" in text
    assert main(["compare", *runs, "--html", "page.txt"]) == 2
    assert main(["compare", *runs, "--html", "nowhere/page.html"]) == 2
    assert "--html = 'nowhere/page.html': cannot be written" in capsys.readouterr().err


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plotly", None)
    run = make_run(tmp_path / "run", [make_record(1)])
    install = "install it with: pip install lockstep-trainer[report]"
    assert main(["report", run]) == 0
    written, missing = capsys.readouterr().out.splitlines()
    assert written == f"lockstep: wrote {run}/report/curves.png"
    assert missing == f"lockstep: no index.html, as plotly is not installed; {install}"
    assert main(["compare", run, "--html", str(tmp_path / "a.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"--html: needs the package plotly; {install}")


def lines_of(figure, y):
    """Name → values of the lines on a y axis."""
    return {line["name"]: line["y"] for line in figure["data"] if line["yaxis"] == y}


def test_a_comparison_shows_the_validation_set_of_a_run_that_has_one():
    runs = {
        split: [make_record(1, 0.5, split), make_record(2, 0.75, split)] for split in ("test", "validation")
    }
    figure = comparison(runs, "accuracy")
    assert lines_of(figure, "y2") == {"test": [0.5, 0.75], "validation": [0.5, 0.75]}
    assert figure["layout"]["yaxis2"]["title"]["text"] == "test or validation accuracy"


def test_a_moving_average_has_a_line_of_its_own():
    records = [
        {**make_record(step, 0.5), "ema_test_loss": 0.25, "ema_test_accuracy": 0.75} for step in (1, 2)
    ]
    assert lines_of(curves(records, [], "accuracy"), "y2")["moving average, test"] == [0.75, 0.75]


def test_a_line_is_in_the_legend_once_and_a_resume_has_a_line_over_all_panels():
    figure = curves([make_record(step, 0.5) for step in (1, 2)], [1], "accuracy")
    named = [line["name"] for line in figure["data"] if line["showlegend"]]
    assert named == ["training", "test", "lr/model"]
    assert len(figure["data"]) == 5
    (resume,) = figure["layout"]["shapes"]
    assert (resume["x0"], resume["x1"], resume["yref"]) == (1, 1, "paper")


def test_a_loss_that_falls_far_has_a_logarithmic_axis():
    for losses, kind in (([2.0, 0.2], "log"), ([2.0, 1.0], None), ([2.0, 0.0], None)):
        records = [{**make_record(step), "loss": loss} for step, loss in enumerate(losses, 1)]
        assert curves(records, [], "accuracy")["layout"]["yaxis"].get("type") == kind
        assert comparison({"a": records}, "accuracy")["layout"]["yaxis"].get("type") == kind


def test_a_confusion_matrix_shows_each_count_once_and_no_zeros():
    right, wrong = confusion_figure(np.array([[5, 2], [0, 1200]]), ["cat", "<dog>"])["data"]
    assert right["z"] == [[5, None], [None, 1200]]
    assert wrong["z"] == [[None, 2], [None, None]]
    assert right["x"] == right["y"] == ["cat", "&lt;dog&gt;"]
    assert right["texttemplate"] == wrong["texttemplate"] == "%{z:,}"


def test_a_confusion_matrix_of_many_classes_has_no_numbers():
    counts = np.eye(100, dtype=np.int64)
    figure = confusion_figure(counts, [f"class {index}" for index in range(100)])
    assert "texttemplate" not in figure["data"][0]


def test_a_figure_is_a_script_that_no_name_can_end():
    figure = comparison({"</script><b>": [make_record(1)]}, "accuracy")
    figure["layout"]["title"] = {"text": "</script>"}
    content = drawn(figure)
    assert content.count("</script>") == 1
    assert content.endswith("</script></div>")


def test_plotly_knows_every_name_of_a_figure():
    """Plotly's Python objects refuse a name or a value that plotly.js does not know."""
    graph_objects = pytest.importorskip("plotly.graph_objects")
    records = [make_record(step, 0.5) for step in (1, 2)]
    for figure in (
        curves(records, [1], "accuracy"),
        comparison({"a": records}, "accuracy"),
        confusion_figure(np.array([[5, 2], [0, 1200]]), ["cat", "dog"]),
    ):
        graph_objects.Figure(figure)
    graph_objects.layout.Template(layout=THEME)


def test_a_page_needs_none_of_plotlys_objects():
    """They take a quarter of a second, and a report is drawn at the end of each run."""
    program = (
        "import lockstep.report.html.html_comparison, sys; sys.exit('plotly.basedatatypes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: as root, apt-get install chromium")
def test_a_browser_draws_the_report_without_a_network(tmp_path):
    folder = run_with_all(tmp_path, "run")
    assert main(["report", str(folder)]) == 0
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom"]
    page = (folder / "report" / "index.html").as_uri()
    result = subprocess.run([*words, page], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    dom = re.sub(r"<script.*?</script>", "", result.stdout, flags=re.DOTALL)
    assert dom.count('class="main-svg"') >= 2  # the curves and the matrix
    assert "scatterlayer" in dom
    assert "optimizer steps" in dom
    assert 'data-title="Zoom"' in dom
    assert "Share" not in dom  # a button of plotly 7, which sends the figure to plotly's cloud
