"""The report as a command and as a function of files: what it says, refuses and leaves alone."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fixtures.commands import command as run
from gspo_rs.cli.report import report as command
from gspo_rs.data.source import locate
from gspo_rs.report import examples, load, report


def test_the_source_and_a_folder_are_not_overwritten(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": [1], "reward": [0.5]}).write_parquet(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is one of the files to read"):
        report(path, path, by="id")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        report(path, tmp_path, by="id")
    with pytest.raises(NotADirectoryError, match=r"a\.parquet is no folder, so"):
        report(path, path / "report.html", by="id")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_the_page_is_made_but_not_by_a_dry_run(tmp_path):
    frame = pl.DataFrame({"id": [1], "reward": [0.5]})
    target = tmp_path / "new" / "report.html"
    report(frame, target, by="id", dry_run=True)
    assert not target.parent.exists()
    assert report(frame, target, by="id").html == target.read_text(encoding="utf-8")


def test_a_mistake_gets_one_line_and_leaves_no_file(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": [1, 2], "reward": [0.5, float("inf")]}).write_parquet(path)
    target = tmp_path / "report.html"
    assert command([str(path)], by=["ids"], target=target) == 2
    assert "has no column 'ids'; did you mean 'id'" in capsys.readouterr().err
    assert command([str(path)], by=["id"], target=target) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the reward 'reward' is infinite at row 1 of ")
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_takes_several_files_and_columns(tmp_path, capsys):
    for number in (1, 2):
        frame = pl.DataFrame({"task": ["t", "u"], "id": [1, 1], "score": [0.0, number / 2]})
        frame.write_parquet(tmp_path / f"{number}.parquet")
    files = [str(tmp_path / f"{number}.parquet") for number in (1, 2)]
    target = tmp_path / "report.html"
    options = {"by": ["task", "id"], "reward": "score", "threshold": 0.75}
    assert command(files, target=target, **options) == 0
    assert capsys.readouterr().out.startswith(f"{target}, ")
    page = target.read_text(encoding="utf-8")
    assert "2 groups, of 2 rollouts on average" in page
    # Group u is right once in two draws, group t never.
    assert "0.25 for one draw, 0.5 for 2" in page


def test_the_program_writes_the_page_and_says_where(tmp_path):
    pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0]}).write_parquet(tmp_path / "a.parquet")
    found = run("report", "a.parquet", "--by", "id", "-o", "page.html", cwd=tmp_path)
    size = (tmp_path / "page.html").stat().st_size
    assert (found.returncode, found.stderr) == (0, "")
    said, seconds = found.stdout.splitlines()
    assert said == f"page.html, {size / 1000:,.0f} kB"
    assert seconds.endswith(" s")


def test_a_long_run_says_how_far_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(load, "QUIET", 0.0)
    rows = 40_000
    frame = pl.DataFrame({"id": 1, "reward": np.arange(rows) % 2.0, "completion": "x"})
    frame.write_parquet(tmp_path / "a.parquet")
    with caplog.at_level("INFO", logger="gspo_rs"):
        report(tmp_path / "a.parquet", tmp_path / "page.html", by="id")
    told = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(
        r"reading completions: 16,384 of 40,000 rows, [\d,]+ rows/s, \d+ s left", told[0]
    )


def test_a_source_that_grows_between_the_passes_is_noticed(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0], "completion": ["x", "y"]})
    frame.write_parquet(path)
    source = locate(path)
    given = {"prompt": None, "completion": None, "model": None}
    chosen = load.choose(source, by="id", reward="reward", given=given)
    found = load.read(source, chosen)
    pl.concat([frame, frame]).write_parquet(path)
    with pytest.raises(ValueError, match=r"a\.parquet changed between two reads: another number"):
        examples.gather(locate(path), chosen, found, [0])


def test_the_command_compares_two_files_and_tells_tasks_apart(tmp_path):
    for name, high in (("before", 0.5), ("after", 1.0)):
        columns = {
            "id": [1, 1, 2, 2],
            "task": ["s", "s", "t", "t"],
            "reward": [0.0, high, 0.0, high],
        }
        pl.DataFrame(columns).write_parquet(tmp_path / f"{name}.parquet")
    options = ["--by", "id", "--per", "task", "--compare", "before.parquet", "-o", "page.html"]
    found = run("report", "after.parquet", *options, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Compared with before.parquet" in page
    assert "higher here in 2, lower in 0, equal in 0" in page
    assert '<th scope="row">t</th><td>2</td><td>1</td>' in page
    written = "gspo-rs report after.parquet --by id --per task --compare before.parquet"
    assert f"<code>{written}</code>" in page


def test_a_report_is_its_file_and_shows_itself_in_a_notebook(tmp_path):
    frame = pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0], "completion": ["<b>", '"']})
    made = report(frame, tmp_path / "page.html", by="id")
    assert made.stat().st_size == (tmp_path / "page.html").stat().st_size
    assert Path(made).read_text(encoding="utf-8") == made.html
    shown = made._repr_html_()
    assert shown.startswith("<iframe sandbox ")
    framed = re.search('srcdoc="([^"]*)"', shown)[1]
    assert unescape(framed) == made.html
    unwritten = report(frame, by="id")
    assert unwritten.path is None
    with pytest.raises(TypeError, match="was not written to a file; name one as the target"):
        Path(unwritten)
