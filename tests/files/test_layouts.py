"""One row per prompt with lists gives what the same rows give once Polars has exploded them."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import gspo_rs as gs
from fixtures.commands import call
from gspo_rs import data
from gspo_rs.data.source import locate
from gspo_rs.files.selection import apply, read_selection

MEMBERS = ["completion", "reward", "tokens", "model"]


def asks(text):
    return [{"role": "user", "content": text}]


def answers(text):
    return [{"role": "assistant", "content": text}]


def nested(chat):
    """Return 40 groups of 1 to 5 members, some without a reward, in which texts come again."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(40):
        size = 1 + number % 5
        texts = [f"text {rng.integers(9)}" for _ in range(size)]
        prompt = f"prompt {number // 2}"
        rewards = rng.integers(0, 4, size).tolist()
        rows.append(
            {
                "prompt": asks(prompt) if chat else prompt,
                "completion": [answers(text) for text in texts] if chat else texts,
                "reward": [None if value == 3 else value / 2 for value in rewards],
                "tokens": [[1] * int(rng.integers(0, 3)) for _ in range(size)],
                "model": [f"m{place % 2}" for place in range(size)],
                "tags": ["tag"] * (size + 1),
                "answer": f"answer {number // 2}",
                "meta": {"task": number % 3},
            }
        )
    return pl.DataFrame(rows)


def flat(frame):
    return frame.with_row_index("group").explode(MEMBERS)


@pytest.fixture(params=["frame", "parquet", "jsonl", "arrow", "row groups"])
def write(request, tmp_path):
    def written(frame):
        path = tmp_path / "in" / f"rows.{request.param.split()[0]}"
        path.parent.mkdir(exist_ok=True)
        match request.param:
            case "frame":
                return frame
            case "jsonl":
                frame.write_ndjson(path)
            case "arrow":
                frame.write_ipc(path)
            case "parquet":
                frame.write_parquet(path)
            case _:
                path = path.with_suffix(".parquet")
                frame.write_parquet(path, row_group_size=7)
        return path

    return written


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("by", [None, "prompt", ("prompt", "model"), "meta.task"])
def test_each_verb_finds_in_lists_what_it_finds_in_rows(write, chat, by):
    frame = nested(chat)
    source, rows = write(frame), flat(frame)
    given = {} if by is None else {"by": by}
    wanted = {"by": "group" if by is None else by}
    assert gs.stats(source, per="model", **given) == gs.stats(rows, per="model", **wanted)
    if by != "meta.task":
        # The number that each row of lists has as its key is no column of the source.
        same = gs.pairs(rows, **wanted).drop("group", strict=False)
        assert_frame_equal(gs.pairs(source, **given), same)
        verl = {"ground_truth": "answer", "data_source": "sums"}
        assert_frame_equal(gs.verl(source, **verl, **given), gs.verl(rows, **verl, **wanted))
    same = gs.best(rows, n=2, **wanted).drop("group", strict=False)
    assert_frame_equal(gs.best(source, n=2, **given), same)
    kept = gs.filter(source, keep="informative,best:1", **given)
    expected = gs.filter(rows, keep="informative,best:1", **wanted)
    assert_frame_equal(kept.select(frame.columns), expected.select(frame.columns))
    if by is None:
        assert kept["group"].to_list() == expected["group"].to_list()


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_training_reads_from_lists_what_it_reads_from_rows(write, chat, shuffle):
    frame = nested(chat)
    source, rows = write(frame), flat(frame)
    ours = list(data.rollouts(source, shuffle=shuffle, batch_groups=7))
    theirs = list(data.rollouts(rows, by="group", shuffle=shuffle, batch_groups=7))
    sizes = frame["reward"].list.len().to_list()
    place = [(row, member) for row, size in enumerate(sizes) for member in range(size)]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.prompts, one.completions) == (other.prompts, other.completions)
        assert one.offsets.tolist() == other.offsets.tolist()
        np.testing.assert_array_equal(one.reward, other.reward)
        found = list(zip(one.source_rows.tolist(), one.members.tolist(), strict=True))
        assert found == [place[row] for row in other.source_rows]
    index = data.index_groups(source, by="prompt")
    wanted = data.index_groups(rows, by="prompt")
    assert index.groups.codes.tolist() == wanted.groups.codes.tolist()
    assert index.n_uninformative == wanted.n_uninformative


def test_explode_splits_what_is_of_members_and_says_so(write, tmp_path):
    frame = nested(chat=True)
    written = gs.explode(write(frame), tmp_path / "out.parquet")
    assert sorted(written.exploded) == sorted(MEMBERS)
    expected = frame.explode(MEMBERS)
    assert_frame_equal(pl.read_parquet(tmp_path / "out.parquet"), expected)


def test_a_selection_of_lists_is_one_of_their_members(tmp_path):
    frame = nested(chat=False)
    frame.write_parquet(tmp_path / "in.parquet")
    target = tmp_path / "chosen.parquet"
    gs.filter(tmp_path / "in.parquet", target, keep="best:1", layout="narrow")
    expected = gs.filter(flat(frame), by="group", keep="best:1")
    found = apply(read_selection(target)).collect()
    assert_frame_equal(found, expected.select(found.columns))


def test_lists_of_structs_are_read_by_the_names_of_their_fields():
    samples = [[{"text": "a", "score": 1.0}, {"text": "b", "score": 0.0}]]
    frame = pl.DataFrame({"prompt": ["p"], "samples": samples})
    options = {"reward": "samples.score", "completion": "samples.text"}
    assert gs.best(frame, **options).rows() == [("p", "a", 1.0)]
    assert gs.pairs(frame, by="prompt", **options).row(0)[:3] == ("p", "a", "b")


def test_structs_of_lists_are_read_by_the_names_of_their_fields():
    frame = pl.DataFrame(
        {
            "prompt": ["p", "q"],
            "out": [{"text": ["a", "b"], "who": ["m", "n"]}, {"text": ["c"], "who": ["m"]}],
            "scores": [{"right": [0, 1], "why": "x"}, {"right": [1], "why": "y"}],
        }
    )
    options = {"reward": "scores.right", "completion": "out.text"}
    assert gs.best(frame, **options).rows() == [("p", "b", 1.0), ("q", "c", 1.0)]
    parts = gs.stats(frame, reward="scores.right", per="out.who")
    assert [(part.part, part.rows) for part in parts] == [(None, 3), ("m", 2), ("n", 1)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": [[1.0], []]}, "row 1 of the DataFrame: 'reward' is an empty list"),
        ({"reward": [None, [1.0, 2.0]]}, "row 0 of the DataFrame: 'reward' is null"),
        ({"completion": [["a"], ["b"]]}, "row 1 .*'completion' has 1 values, but .* 2 rewards"),
        ({"completion": [None, ["b", "c"]]}, "row 0 .*'completion' is null, but .* 1 rewards"),
        ({"reward": [[1.0], [0.5, float("inf")]]}, "'reward' is infinite at row 1, member 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused_with_row_and_column(change, words):
    rows = {"prompt": ["p", "q"], "completion": [["a"], ["b", "c"]], "reward": [[1.0], [0.0, 1.0]]}
    with pytest.raises(ValueError, match=words):
        gs.best(pl.DataFrame({**rows, **change}))


def test_a_null_text_or_key_is_named_by_row_and_member():
    rows = {"prompt": ["p", "q"], "completion": [["a"], ["b", None]], "reward": [[1.0], [0.0, 1.0]]}
    frame = pl.DataFrame(rows)
    with pytest.raises(ValueError, match="completion is null at row 1, member 1 of the DataFrame"):
        gs.best(frame)
    with pytest.raises(ValueError, match=r"'completion' .* is null, .* at row 1, member 1"):
        list(data.rollouts(frame))
    with pytest.raises(ValueError, match="'completion' is null at row 1, member 1"):
        gs.stats(frame, by="completion")


def test_a_list_that_has_the_length_of_the_rewards_in_some_rows_only_is_refused():
    frame = pl.DataFrame({"reward": [[1, 0], [1]], "tags": [["a", "b"], ["c", "d"]]})
    with pytest.raises(ValueError, match=r"'tags' .* in row 0, but not in row 1; name it with `on"):
        gs.explode(frame)
    assert gs.explode(frame, once=["tags"])["tags"].to_list() == [["a", "b"]] * 2 + [["c", "d"]]
    # Nobody needs to say what is not read.
    assert gs.stats(frame)[0].groups == 2


def test_rows_without_lists_need_a_key_and_nested_rows_are_not_nested_again():
    frame = pl.DataFrame({"prompt": ["p"], "completion": [["a"]], "reward": [[1.0]]})
    with pytest.raises(ValueError, match="is nested already: 'reward' is a list"):
        gs.nest(frame, by="prompt")
    flat_rows = frame.select("completion", "reward").explode("completion", "reward")
    for verb in (gs.stats, gs.best, gs.pairs):
        with pytest.raises(ValueError, match="nothing says which rows are of one prompt"):
            verb(flat_rows)
    with pytest.raises(ValueError, match="no column 'rewrad'; did you mean 'reward'"):
        gs.stats(frame, reward="rewrad")


def test_one_reward_of_lists_and_one_of_numbers_are_refused():
    frame = pl.DataFrame({"a": [[1.0, 0.0]], "b": [1.0]})
    with pytest.raises(TypeError, match="'b' of the DataFrame is no list of numbers"):
        data.index_groups(frame, reward=["a", "b"])


def test_the_column_of_row_numbers_takes_a_free_name():
    frame = pl.DataFrame({"group": ["x"], "reward": [[1.0, 0.0]]})
    assert gs.filter(frame, keep="all").columns == ["group", "reward", "group_"]


def test_json_of_lists_keeps_the_keys_of_its_messages(tmp_path):
    said = [answers("a"), [{"role": "assistant", "content": None, "tool_calls": [{"id": 1.50}]}]]
    row = {"prompt": asks("p"), "completion": said, "reward": [0, 1], "extra": {"a": 10**30}}
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(row) + "\n")
    gs.best(source, tmp_path / "best.jsonl")
    assert json.loads((tmp_path / "best.jsonl").read_text())["completion"] == said[1]
    gs.explode(source, tmp_path / "rows.jsonl")
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    places = range(2)
    assert found == [{**row, "completion": said[i], "reward": row["reward"][i]} for i in places]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=30), st.integers(1, 40))
def test_members_come_once_and_in_order_however_they_are_cut(sizes, chunk):
    frame = pl.DataFrame({"reward": [[float(i) for i in range(size)] for size in sizes]})
    from gspo_rs.data import nested_source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nested_source, "CHUNK", chunk)
        source, _ = nested_source.by_member(locate(frame), None, ["reward"])
        expected = frame.with_row_index("group").explode("reward")
        columns = [pl.col("group"), pl.col("reward")]
        found = pl.concat(source.batches(columns, source.count()))
        assert_frame_equal(found, expected.select("group", "reward"), check_dtypes=False)
        part = source.frame.slice(3, 5).collect()
    assert part["reward"].to_list() == expected["reward"][3:8].to_list()


def test_each_row_of_lists_is_read_once_in_a_pass(monkeypatch):
    from gspo_rs.data import nested_source

    texts = [[f"{row}", "x"] for row in range(1000)]
    frame = pl.DataFrame({"prompt": ["p"] * 1000, "completion": texts, "reward": [[0, 1]] * 1000})
    read, split = [], nested_source.split

    def counted(values, paths, rows):
        read.append(values.name)
        return split(values, paths, rows)

    monkeypatch.setattr(nested_source, "CHUNK", 20)
    monkeypatch.setattr(nested_source, "split", counted)
    assert sum(len(batch.prompts) for batch in data.rollouts(frame, batch_groups=3)) == 2000
    # 100 parts of 10 rows, read for the index and then with their texts.
    assert (read.count("prompt"), read.count("completion")) == (100, 100)


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("by", [None, "prompt", ("prompt", "model")])
@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["all", "informative,best:2"])
def test_lists_are_scored_as_their_rows(write, tmp_path, chat, by, layout, keep):
    frame = nested(chat)
    source = write(frame)
    given = {} if by is None else {"by": by}
    options = {"layout": layout, "keep": keep}
    report = gs.score(source, tmp_path / "lists", **options, **given)
    gs.score(flat(frame), tmp_path / "rows", by="group" if by is None else by, **options)
    read = {*MEMBERS[:2], *(["model"] if by == ("prompt", "model") else [])}
    assert set(report.exploded) == (set(MEMBERS) if layout == "wide" else read)
    gs.verify(tmp_path / "lists")
    if not isinstance(source, pl.DataFrame):
        again = gs.score(source, tmp_path / "lists", **options, **given)
        assert (again.rows, again.skipped) == (report.rows, 1)
    names = pl.read_parquet(tmp_path / "rows" / "*.parquet")
    found = pl.read_parquet(tmp_path / "lists" / "*.parquet")
    shared = [name for name in names.columns if name in found.columns]
    assert set(names.columns) - set(shared) <= {"group"}
    assert_frame_equal(found.select(shared), names.select(shared), check_dtypes=False)
    if layout == "narrow" and not isinstance(source, pl.DataFrame):
        whole = gs.scan(tmp_path / "lists").collect()
        gs.score(flat(frame), tmp_path / "wide", by="group" if by is None else by, keep=keep)
        expected = pl.read_parquet(tmp_path / "wide" / "*.parquet")
        names = [name for name in expected.columns if name in whole.columns]
        assert_frame_equal(whole.select(names), expected.select(names), check_dtypes=False)


def test_rows_of_several_files_with_lists_are_numbered_over_all_of_them(tmp_path):
    parts = list(nested(chat=False).iter_slices(11))
    (tmp_path / "in").mkdir()
    for number, part in enumerate(parts):
        part.write_parquet(tmp_path / "in" / f"{number}.parquet")
    for keys in ({}, {"by": "prompt"}):
        target = tmp_path / f"out{len(keys)}"
        report = gs.score(tmp_path / "in", target, **keys)
        frame = flat(pl.concat(parts))
        gs.score(frame, tmp_path / f"rows{len(keys)}", by=keys.get("by", "group"))
        expected = pl.read_parquet(tmp_path / f"rows{len(keys)}" / "*.parquet")
        found = pl.read_parquet(target / "*.parquet")
        assert_frame_equal(found.select(expected.columns[1:]), expected[:, 1:])
        assert report.groups == expected["group" if not keys else "prompt"].n_unique()


def test_scoring_names_row_and_member_of_what_is_wrong(tmp_path):
    frame = pl.DataFrame({"k": [["a", "b"], ["c", None]], "reward": [[0.0, 1.0], [2.0, 1.0]]})
    with pytest.raises(ValueError, match="'k' is null at row 1, member 1 of the DataFrame"):
        gs.score(frame, tmp_path / "out", by="k")
    bad = frame.with_columns(reward=pl.Series([[0.0, float("-inf")], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="'reward' is infinite at row 0, member 1"):
        gs.score(bad, tmp_path / "out")
    with pytest.raises(ValueError, match=r"row 1 .*'reward' is an empty list"):
        gs.score(frame.with_columns(reward=pl.Series([[0.0, 1.0], []])), tmp_path / "out")


def test_the_command_line_says_which_lists_it_read(tmp_path, capsys):
    nested(chat=False).write_parquet(tmp_path / "in.parquet")
    for verb, target in (("score", "out"), ("explode", "rows.parquet"), ("best", "best.parquet")):
        assert call(verb, tmp_path / "in.parquet", "-o", tmp_path / target) == 0
        assert "one row per prompt, read by the lists reward, completion" in capsys.readouterr().out
