"""One grammar: sources, -o, and options that mean the same in every command."""

import json
import runpy
import shlex
import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs
from fixtures.commands import call
from fixtures.forked import finished
from fixtures.places import ROOT
from gspo_rs.cli.application import app
from gspo_rs.cli.commands import COMMANDS, USAGE
from gspo_rs.cli.errors import EXIT_CODES
from gspo_rs.files.scoring.options import options_of
from gspo_rs.files.selection import apply, read_selection

FRAME = pl.DataFrame(
    {
        "id": [row // 4 for row in range(24)],
        "task": ["t"] * 12 + ["u"] * 12,
        "prompt": [f"p{row // 4}" for row in range(24)],
        "completion": [f"c{row}" for row in range(24)],
        "answer": [f"a{row // 4}" for row in range(24)],
        "reward": [(row * 7 % 5) / 4 for row in range(24)],
    }
)
TRUTH = ["--ground-truth", "answer", "--data-source", "sums"]
# Verbs that write a table, with what they need.
WRITING = {
    "best": ["--by", "id"],
    "explode": [],
    "filter": ["--by", "id", "--keep", "best:2"],
    "nest": ["--by", "id"],
    "pairs": ["--by", "id"],
    "scan": [],
    "verl": ["--by", "id", *TRUTH],
}
# Those whose rules can leave nothing, with such rules.
NOTHING = {
    "best": ["--by", "id", "--keep", "size:9.."],
    "filter": ["--by", "id", "--keep", "size:9.."],
    "pairs": ["--by", "id", "--keep", "size:9.."],
    "verl": ["--by", "id", "--keep", "size:9..", *TRUTH],
    "score": ["--by", "id", "--keep", "size:9.."],
}


@pytest.fixture
def folder(tmp_path):
    """The rows in two files, and their groups as lists in two others."""
    lists = FRAME.group_by("id", maintain_order=True).agg(pl.all())
    for name, frame in {"rows": FRAME, "lists": lists}.items():
        half = frame.height // 2
        frame[:half].write_parquet(tmp_path / f"{name}1.parquet")
        frame[half:].write_parquet(tmp_path / f"{name}2.parquet")
    return tmp_path


def sources_of(verb, folder):
    name = "lists" if verb == "explode" else "rows"
    return [folder / f"{name}{number}.parquet" for number in (1, 2)]


@pytest.mark.parametrize("verb", COMMANDS)
def test_an_example_is_a_command_that_would_run(verb):
    _, example = USAGE[verb]
    words = shlex.split(example)
    assert words[0] == verb
    app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_examples_of_the_help_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    data = ROOT / "examples" / "data"
    shutil.copytree(data / "completions", tmp_path / "in")
    shutil.copy(data / "completions.jsonl.gz", tmp_path / "runs.jsonl.gz")
    (tmp_path / "my_project").mkdir()
    shutil.copy(ROOT / "examples" / "own_loss.py", tmp_path / "my_project" / "losses.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # The first write what others read; two have an example with a name or an address to fill in.
    first, filled = ["score", "nest", "doctor"], ["sample", "train"]
    for verb in [*first, *(verb for verb in COMMANDS if verb not in (*first, *filled))]:
        code = call(*shlex.split(USAGE[verb][1]))
        assert code == (1 if verb == "doctor" else 0), capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_of_a_command_has_its_usage_and_an_example(verb):
    shown = " ".join(finished(verb, "--help").stdout.split())
    arguments, example = USAGE[verb]
    assert f"Usage: gspo-rs {verb} {arguments} [OPTIONS]" in shown
    assert f"Example: gspo-rs {example}" in shown


def test_the_page_of_the_command_line_is_what_the_commands_say():
    writer = ROOT / "docs" / "reference" / "write_command_line.py"
    page = runpy.run_path(str(writer))["page"]()
    assert page == writer.with_name("command_line.md").read_text(encoding="utf-8"), (
        "run docs/reference/write_command_line.py"
    )


@pytest.mark.parametrize("verb", WRITING)
def test_several_files_a_glob_and_one_file_of_all_rows_are_one_source(folder, verb, capsys):
    files = sources_of(verb, folder)
    pl.concat([pl.read_parquet(file) for file in files]).write_parquet(folder / "all.parquet")
    glob = str(files[0]).replace("1.parquet", "[12].parquet")
    found = []
    for number, given in enumerate((files, [glob], [folder / "all.parquet"])):
        target = folder / f"out{number}.parquet"
        assert call(verb, *given, "-o", target, *WRITING[verb]) == 0, capsys.readouterr().err
        found.append(pl.read_parquet(target))
    assert found[0].height
    assert_frame_equal(found[0], found[1])
    assert_frame_equal(found[0], found[2])


@pytest.mark.parametrize("verb", [*WRITING, "score"])
def test_the_summary_is_one_object_with_json_and_nothing_with_quiet(folder, verb, capsys):
    words = WRITING.get(verb, ["--by", "id"])
    given = [verb, *sources_of(verb, folder), *words]
    target = folder / ("a" if verb == "score" else "a.parquet")
    assert call(*given, "-o", target, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == verb
    assert found["output"] == str(target)
    assert 0 <= found["seconds"] < 600
    assert found["next"].startswith("gspo-rs ")
    rows = FRAME.height if verb == "score" else pl.read_parquet(target).height
    assert found["rows"] == rows
    assert call(*given, "-o", target.with_stem("b"), "--quiet") == 0
    out, error = capsys.readouterr()
    assert out == ""
    assert error == "" or (verb == "best" and "lowest reward" in error)


def test_stats_and_scan_print_their_table_with_quiet_too(folder, capsys):
    (one, two) = sources_of("stats", folder)
    for words in (["stats", one, two, "--by", "id"], ["scan", one, two]):
        assert call(*words) == 0
        table, summary = capsys.readouterr()
        assert "24 rows" in summary
        assert call(*words, "--quiet") == 0
        assert capsys.readouterr() == (table, "")


@pytest.mark.parametrize("verb", WRITING)
def test_a_dry_run_counts_what_would_be_written_and_writes_nothing(folder, verb, capsys):
    target = folder / "out.parquet"
    given = [verb, *sources_of(verb, folder), "-o", target, *WRITING[verb], "--json"]
    before = {path.name for path in folder.iterdir()}
    assert call(*given, "--dry-run") == 0
    promised = json.loads(capsys.readouterr().out)
    assert {path.name for path in folder.iterdir()} == before
    assert promised.pop("dry_run") is True
    assert call(*given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("dry_run") is False
    for key in ("seconds", "next"):
        found.pop(key, None), promised.pop(key, None)
    assert found == promised
    # And it refuses what the work would refuse.
    assert call(*given, "--dry-run") == 2
    assert "is there already" in capsys.readouterr().err


def test_a_dry_run_of_report_makes_the_page_and_writes_none(folder, capsys):
    words = ["report", *sources_of("report", folder), "--by", "id", "-o", folder / "r.html"]
    assert call(*words, "--dry-run") == 0
    assert "r.html would be written, and nothing was, " in capsys.readouterr().out
    assert not (folder / "r.html").exists()
    assert call(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == (folder / "r.html").stat().st_size
    assert call(*words, "--dry-run") == 2


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_a_dry_run_of_score_counts_what_scoring_counts_and_leaves_the_folder_as_it_is(
    folder, layout, capsys
):
    words = ["score", *sources_of("score", folder), "-o", folder / "out", "--by", "id", "--json"]
    words += ["--layout", layout, "--keep", "informative,top:0.5"]
    before = sorted(folder.rglob("*"))
    assert call(*words, "--dry-run") == 0
    promised = json.loads(capsys.readouterr().out)
    assert sorted(folder.rglob("*")) == before
    assert call(*words) == 0
    found = json.loads(capsys.readouterr().out)
    counts = ("rows", "kept", "groups", "uninformative", "dropped", "files", "output")
    assert {key: promised[key] for key in counts} == {key: found[key] for key in counts}
    assert (promised["dry_run"], found["dry_run"]) == (True, False)
    # The same request again is done already; another one would replace the output.
    assert call(*words, "--dry-run") == 0
    assert call(*words, "--dry-run", "--estimator", "rloo") == 2
    assert "holds an output of other options" in capsys.readouterr().err
    assert call(*words, "--dry-run", "--estimator", "rloo", "--overwrite") == 0
    assert call(*words[:-2], "--dry-run", "--keep", "worst:1") == 2


@pytest.mark.parametrize("size", ["2GiB", "2GB", "2g", "2048M", "2 gib", "2.0 GB", str(2 << 30)])
def test_a_size_of_memory_is_read_in_every_usual_spelling(folder, size):
    words = ["score", folder / "rows1.parquet", "-o", folder / "out", "--by", "id"]
    assert call(*words, "--memory-limit", size) == 0
    asked = {"by": "id", "reward": "reward", "estimator": "rloo", "estimator_options": {}}
    asked |= {"layout": "wide", "keep": "all", "threshold": None}
    assert options_of(**asked, memory_limit=size).memory_limit == 2 << 30
    for wrong in (f"{size} x", "2i", "GiB", "-1", "nan", "1e9", True):
        with pytest.raises(ValueError, match="write it as '2GiB'"):
            options_of(**asked, memory_limit=wrong)


@pytest.mark.parametrize("verb", NOTHING)
def test_rules_that_leave_nothing_are_an_error_that_counts_unless_it_is_allowed(
    folder, verb, capsys
):
    target = folder / ("out" if verb == "score" else "out.parquet")
    given = [verb, *sources_of(verb, folder), "-o", target, *NOTHING[verb]]
    assert call(*given) == 2
    assert "is left: size:9.. drops 24; --allow-empty writes none" in capsys.readouterr().err
    assert not target.exists()
    if verb == "score":
        assert call(*given, "--dry-run") == 2
    assert call(*given, "--allow-empty") == 0
    assert gs.scan(target).collect().height == 0


@pytest.mark.parametrize("verb", [verb for verb in WRITING if verb != "scan"])
def test_a_function_without_a_target_returns_the_rows_of_the_file(folder, verb):
    sources = sources_of(verb, folder)
    options = {"by": "id"} if verb != "explode" else {}
    if verb == "filter":
        options["keep"] = "best:2"
    if verb == "verl":
        options |= {"ground_truth": "answer", "data_source": "sums"}
    written = getattr(gs, verb)(sources, folder / "out.parquet", **options)
    found = getattr(gs, verb)(sources, **options)
    assert isinstance(found, pl.DataFrame)
    assert found.height == written.rows > 0
    assert_frame_equal(found, pl.read_parquet(folder / "out.parquet"))


def test_filter_keeps_rows_and_columns_or_their_numbers(folder, capsys):
    files = sources_of("filter", folder)
    given = ["filter", *files, "--by", "id", "--keep", "best:1"]
    assert call(*given, "-o", folder / "a.jsonl", "--columns", "completion,reward") == 0
    best = FRAME.with_row_index("row").sort("reward", descending=True, maintain_order=True)
    best = best.unique("id", keep="first").sort("row")
    found = pl.read_ndjson(folder / "a.jsonl")
    assert_frame_equal(found, best.select("completion", "reward"))
    assert call(*given, "-o", folder / "n.parquet", "--layout", "narrow") == 0
    selection = read_selection(folder / "n.parquet")
    assert selection.rows.tolist() == best["row"].to_list()
    assert_frame_equal(apply(selection).collect(), best.drop("row"))
    assert call(*given, "-o", folder / "m.parquet", "--layout=narrow", "--columns=id") == 2
    assert "row numbers come without columns" in capsys.readouterr().err


def test_groups_of_several_columns_are_the_same_with_commas_and_repeated(folder, capsys):
    (one, two) = sources_of("stats", folder)
    found = []
    for by in (["--by", "task,id"], ["--by", "task", "--by", "id"], ["--by=task,id"]):
        assert call("stats", one, two, *by, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["whole"])
    assert found[0] == found[1] == found[2]
    assert found[0]["groups"] == 6


def test_scan_tells_rows_columns_and_types_and_copies_what_is_asked_for(folder, capsys):
    files = sources_of("scan", folder)
    assert call("scan", *files, "--columns", "id,reward", "--rows", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 24
    assert found["columns"] == {"id": "Int64", "reward": "Float64"}
    assert found["first"] == FRAME.select("id", "reward").head(2).to_dicts()
    assert found["container"] == "2 files: .parquet"
    assert call("scan", *files, "-o", folder / "copy.jsonl", "--columns", "id,reward") == 0
    assert_frame_equal(pl.read_ndjson(folder / "copy.jsonl"), FRAME.select("id", "reward"))
    assert gs.scan(files, columns=["reward"]).collect().equals(FRAME.select("reward"))
    assert call("scan", *files, "--columns", "reword") == 2
    assert "did you mean 'reward'" in capsys.readouterr().err


def test_the_numbers_of_stats_are_those_of_arrays_and_of_a_source():
    whole = gs.stats(FRAME, by="id")[0]
    arrays = gs.stats(FRAME["reward"], FRAME["id"])
    assert whole.groups == len(arrays.mean)
    assert whole.informative == arrays.informative.mean()
    assert gs.stats(rewards=[0.0, 1.0], groups=[0, 0]).mean.tolist() == [0.5]
    assert gs.stats([0.0, 1.0], groups=[0, 0]).mean.tolist() == [0.5]
    with pytest.raises(ValueError, match=r"--by \(by=…\)"):
        gs.stats(FRAME.select("id", "reward"))


@pytest.mark.parametrize("verb", ["best", "filter", "nest", "pairs", "verl", "score", "stats"])
def test_the_columns_of_a_known_tool_need_no_option_and_are_said(tmp_path, verb, capsys, caplog):
    rows = FRAME.select(input="prompt", output="completion", score="reward", answer="answer")
    rows.write_parquet(tmp_path / "dump.parquet")
    words = ["--keep", "best:1"] if verb == "filter" else TRUTH if verb == "verl" else []
    target = [] if verb == "stats" else ["-o", tmp_path / "out.parquet"]
    with caplog.at_level("INFO", logger="gspo_rs"):
        assert call(verb, tmp_path / "dump.parquet", *target, *words, "--json") == 0
    assert "by input" in caplog.text
    found = json.loads(capsys.readouterr().out)
    assert found.get("groups", found.get("whole", {}).get("groups")) == 6


@pytest.mark.slow
def test_each_exit_code_of_a_command_is_in_the_table(folder):
    one, _ = sources_of("stats", folder)
    seen = {
        finished("stats", one, "--by", "id").returncode,
        finished("stats", one, "--by", "none").returncode,
        finished("stats", one, "--bye", "id").returncode,
        finished("doctor", "statistics:fmean", "--kind", "advantage").returncode,
    }
    assert seen <= {*EXIT_CODES}
    assert {0, 2} <= seen


@pytest.mark.parametrize("verb", [*WRITING, "score"])
def test_a_split_is_read_by_name_in_every_verb(folder, verb, capsys):
    parts = folder / "parts"
    parts.mkdir()
    for name, file in zip(("train", "test"), sources_of(verb, folder), strict=True):
        pl.read_parquet(file).write_parquet(parts / f"{name}.parquet")
    words = WRITING.get(verb, ["--by", "id"])
    found = []
    for name, given in (("a", [parts, "--split", "test"]), ("b", [sources_of(verb, folder)[1]])):
        target = folder / (name if verb == "score" else f"{name}.parquet")
        assert call(verb, *given, "-o", target, *words) == 0, capsys.readouterr().err
        found.append(pl.read_parquet(target / "*.parquet" if verb == "score" else target))
    assert_frame_equal(*found)
    assert call(verb, parts, "--split", "none", "-o", folder / "c.parquet", *words) == 2
    assert "none is called 'none'" in capsys.readouterr().err
