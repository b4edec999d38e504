"""Pairs and best completions in files, against plain Python on the whole frame."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gspo_rs as gs
from gspo_rs.files import pairs as pair_files
from gspo_rs.files.best import best
from gspo_rs.files.pairs import pairs

FRAME = pl.DataFrame(
    {
        "id": ["b", "a", "b", "a", "b", "c"],
        "prompt": ["B?", "A?", "B?", "A?", "B?", "C?"],
        "response": ["b0", "a0", "b1", "a1", "b2", "c0"],
        "reward": [0.5, 1.0, 2.0, 1.0, None, 3.0],
    }
)


def by_hand(frame, found, completion="response", *, by):
    """The rows of a file of pairs, one dictionary access after the other."""
    rows = frame.to_dicts()
    keys = [by] if isinstance(by, str) else by
    return [
        {
            "prompt": rows[a]["prompt"],
            "chosen": rows[a][completion],
            "rejected": rows[b][completion],
            "margin": rows[a]["reward"] - rows[b]["reward"],
            "chosen_reward": rows[a]["reward"],
            "rejected_reward": rows[b]["reward"],
            **{key: rows[a][key] for key in keys},
        }
        for a, b in found
        if rows[a][completion] != rows[b][completion]
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_pair_is_the_prompt_the_better_and_the_worse_text(tmp_path, suffix):
    target = tmp_path / f"pairs{suffix}"
    written = pairs(FRAME, target, by="id")
    assert written == gs.files.writer.WriteSummary(rows=1, groups=1, dropped={})
    read = pl.read_parquet if suffix == ".parquet" else pl.read_ndjson
    assert read(target).to_dicts() == [
        {
            "prompt": "B?",
            "chosen": "b1",
            "rejected": "b0",
            "margin": 1.5,
            "chosen_reward": 2.0,
            "rejected_reward": 0.5,
            "id": "b",
        }
    ]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "by", "strategy", "margin"),
    [
        ("rg_policy3", ["source", "prompt_id"], "best_worst", 0.0),
        ("rg_policy3", "prompt_id", "best_random", 0.0),
        ("llama3b_amc_aime50", "prompt_id", "all", 0.0),
        ("tot_game24_200", "prompt_id", "best_random", 0.5),
        ("gsm8k_solutions4", "prompt_id", "all", 0.0),
        ("qwen_math_rm8", "prompt_id", "all", 1.25),
        ("rg_easy", "prompt_id", "best_worst", 0.25),
    ],
)
def test_pairs_of_real_files_are_those_of_the_frame_in_memory(
    shared, tmp_path, monkeypatch, file, by, strategy, margin
):
    # A small budget, so that the texts go over the disk.
    monkeypatch.setattr(
        pair_files, "sort_on_disk", lambda *a, **k: ORDERED(*a, budget=1 << 20, **k)
    )
    source = shared / f"data/{file}.parquet"
    frame = pl.read_parquet(source, columns=["source", "prompt_id", "prompt", "response", "reward"])
    found = gs.preference_pairs(frame["reward"], frame.select(by), strategy, margin, seed=3)
    pairs(source, tmp_path / "p.parquet", by=by, strategy=strategy, margin=margin, seed=3)
    written = pl.read_parquet(tmp_path / "p.parquet")
    assert written.to_dicts() == by_hand(frame, found, by=by)
    assert (written["margin"] > margin).all()
    assert len(found) > 50


TWINS = FRAME.with_columns(response=pl.Series(["same", "a0", "same", "a1", "b2", "c0"]))


@pytest.mark.parametrize("kind", ["text", "messages", "lines"])
def test_a_pair_of_two_equal_texts_is_left_out_and_counted(tmp_path, kind):
    frame = TWINS.vstack(FRAME.with_columns(id=pl.format("{}2", "id")))
    if kind != "text":
        said = pl.struct(role=pl.lit("assistant"), content=pl.col("response"))
        asked = pl.struct(role=pl.lit("user"), content=pl.col("prompt"))
        frame = frame.with_columns(pl.concat_list(said).alias("response"))
        frame = frame.with_columns(pl.concat_list(asked).alias("prompt"))
    source, target = frame, tmp_path / "pairs.parquet"
    if kind == "lines":
        source, target = tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl"
        frame.write_ndjson(source)
    written = pairs(source, target, by="id", strategy="all")
    assert (written.rows, written.groups, written.same_text) == (1, 1, 1)
    read = pl.read_ndjson if kind == "lines" else pl.read_parquet
    assert read(target)["id"].to_list() == ["b2"]
    assert pairs(source, by="id", strategy="all").height == 1


def test_pairs_all_of_equal_texts_are_an_error_that_says_so(tmp_path):
    target = tmp_path / "pairs.parquet"
    for options in ({}, {"dry_run": True}):
        with pytest.raises(ValueError, match=r"in all 1 the chosen and the rejected .*same text"):
            pairs(TWINS, target, by="id", **options)
    assert not target.exists()
    written = pairs(TWINS, target, by="id", allow_empty=True)
    assert (written.rows, written.groups, written.same_text) == (0, 0, 1)
    assert pl.read_parquet(target).columns[:3] == ["prompt", "chosen", "rejected"]


ORDERED = pair_files.sort_on_disk


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0, None])),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["best_worst", "all", "best_random"]),
)
def test_ties_and_unscorable_rows_never_make_a_pair(tmp_path_factory, rows, strategy):
    frame = pl.DataFrame(rows, schema={"id": pl.Int64, "reward": pl.Float64}, orient="row")
    frame = frame.with_columns(
        prompt=pl.format("p{}", "id"), completion=pl.format("c{}", pl.int_range(pl.len()))
    )
    target = tmp_path_factory.mktemp("pairs") / "p.parquet"
    written = pairs(frame, target, by="id", strategy=strategy, seed=1, allow_empty=True)
    found = gs.preference_pairs(frame["reward"], frame["id"], strategy, seed=1)
    assert pl.read_parquet(target).to_dicts() == by_hand(frame, found, "completion", by="id")
    assert written.rows == len(found)
    assert written.groups == len({frame["id"][int(row)] for row in found[:, 0]})


def test_rows_that_the_rules_drop_make_no_pair(tmp_path):
    frame = FRAME.with_columns(reward=pl.Series([0.0, 1.0, 1.0, 0.0, 0.5, 1.0]))
    written = pairs(frame, tmp_path / "p.parquet", by="id", keep="size:3..")
    assert pl.read_parquet(tmp_path / "p.parquet")["chosen"].to_list() == ["b1"]
    assert written.dropped == {"size:3..": 3}


def test_texts_become_messages_and_messages_stay(tmp_path):
    pairs(FRAME, tmp_path / "p.parquet", by="id", chat=True)
    (row,) = pl.read_parquet(tmp_path / "p.parquet").to_dicts()
    assert row["prompt"] == [{"role": "user", "content": "B?"}]
    assert row["rejected"] == [{"role": "assistant", "content": "b0"}]
    asked = pl.struct(role=pl.lit("system"), content=pl.col("prompt"))
    messages = FRAME.with_columns(prompt=pl.concat_list(asked))
    pairs(messages, tmp_path / "q.parquet", by="id", chat=True)
    (row,) = pl.read_parquet(tmp_path / "q.parquet").to_dicts()
    assert row["prompt"] == [{"role": "system", "content": "B?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "b1"}]
    with pytest.raises(ValueError, match=r"'prompt' .* holds messages, 'response' text; .*--chat"):
        pairs(messages, tmp_path / "r.parquet", by="id")


@pytest.mark.parametrize("chat", [False, True])
def test_trl_takes_the_files_as_preference_and_prompt_completion(tmp_path, chat):
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    pairs(FRAME, tmp_path / "p.parquet", by="id", chat=chat)
    best(FRAME, tmp_path / "b.jsonl", by="id", chat=chat)
    load = datasets.Dataset
    preference = load.from_parquet(str(tmp_path / "p.parquet"), cache_dir=str(tmp_path / "cache"))
    completion = load.from_json(str(tmp_path / "b.jsonl"), cache_dir=str(tmp_path / "cache"))
    for loaded, names in ((preference, ["chosen", "rejected"]), (completion, ["completion"])):
        row = loaded[0]
        assert data_utils.is_conversational(row) is chat
        assert set(loaded.column_names) >= {"prompt", *names}
        # TRL infers a prompt only where there is none: ours stays as it is.
        assert data_utils.maybe_extract_prompt(row) == row
    assert len(preference) == 1
    assert len(completion) == 3


@pytest.mark.parametrize("file", ["rg_easy", "rg_policy3", "tot_game24_200", "qwen_math_rm8"])
def test_the_best_of_real_files_are_those_polars_sorts_first(shared, tmp_path, file):
    source = shared / f"data/{file}.parquet"
    written = best(source, tmp_path / "b.parquet", by="prompt_id", n=2, keep="informative")
    frame = pl.read_parquet(source).with_row_index()
    expected = (
        frame.filter(
            pl.col("reward").min().over("prompt_id") < pl.col("reward").max().over("prompt_id")
        )
        .filter(pl.col("reward").is_not_null())
        .sort("reward", descending=True, maintain_order=True)
        .group_by("prompt_id", maintain_order=True)
        .head(2)
        .sort(pl.col("index").min().over("prompt_id"), -pl.col("reward"), "index")
        .select("prompt", pl.col("response").alias("completion"), "reward", "prompt_id")
    )
    assert pl.read_parquet(tmp_path / "b.parquet").equals(expected)
    assert written.rows == len(expected)
    assert sum(written.dropped.values()) + written.rows == len(frame)


def test_a_missing_or_doubtful_column_is_an_error_that_lists_the_columns(tmp_path):
    target = tmp_path / "p.parquet"
    both = FRAME.with_columns(completion=pl.lit("x"))
    for frame, words in [
        (both, r"has both 'completion' and 'response'; name it with --completion\. It has 'id', "),
        (FRAME.drop("prompt"), r"has no column 'prompt'; name it with --prompt\. It has 'id', "),
        (FRAME.rename({"response": "r"}), r"no column 'completion'; name it with --completion"),
        (FRAME.rename({"reward": "rewrad"}), r"no column 'reward'; .*did you mean 'rewrad'"),
        (FRAME.with_columns(response=pl.lit(1)), r"'response' .* is Int32; it must be text or"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            pairs(frame, target, by="id")
        assert list(tmp_path.iterdir()) == []
    assert pairs(both, target, by="id", completion="response").rows == 1


def test_a_null_text_two_prompts_in_a_group_and_a_changing_source_leave_the_old_file(tmp_path):
    target = tmp_path / "p.parquet"
    target.write_text("old")
    null = FRAME.with_columns(response=pl.Series(["b0", None, None, None, None, None]))
    two = FRAME.with_columns(prompt=pl.Series(["B!", "A?", "B?", "A?", "B?", "C?"]))
    calls = iter(range(9))

    def drift(rewards: pl.Series) -> pl.Series:
        return rewards + next(calls)

    drifting = FRAME.lazy().with_columns(
        pl.col("reward").map_batches(drift, return_dtype=pl.Float64)
    )
    for frame, words in [
        (null, r"the completion is null at row 2 of the DataFrame"),
        (two, r"rows 2 and 0 of the DataFrame are of one group but have different prompts"),
        (drifting, r"the LazyFrame changed between two reads: another reward than before"),
    ]:
        with pytest.raises(ValueError, match=words):
            pairs(frame, target, by="id", overwrite=True)
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]


def test_a_source_is_not_overwritten_and_a_target_has_a_known_format(tmp_path):
    path = tmp_path / "a.parquet"
    FRAME.write_parquet(path)
    with pytest.raises(ValueError, match=r"a\.parquet is one of the files to read"):
        best(path, tmp_path / "." / "a.parquet", by="id")
    with pytest.raises(ValueError, match=r"by its suffix; known: \.parquet, \.jsonl, \.ndjson"):
        best(path, tmp_path / "b.txt", by="id")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        best(path, tmp_path, by="id")
    assert pl.read_parquet(path).equals(FRAME)


def test_no_pair_at_all_is_an_empty_file_with_its_columns_only_if_that_is_allowed(tmp_path):
    with pytest.raises(ValueError, match="no two rewards of a group differ by more than 9"):
        pairs(FRAME, tmp_path / "p.parquet", by="id", margin=9.0)
    with pytest.raises(
        ValueError, match=r"no row of .* is left: size:9\.\. drops 6; --allow-empty"
    ):
        best(FRAME, tmp_path / "b.jsonl", by="id", keep="size:9..")
    assert not list(tmp_path.iterdir())
    pairs(FRAME, tmp_path / "p.parquet", by="id", margin=9.0, allow_empty=True)
    empty = pl.read_parquet(tmp_path / "p.parquet")
    assert empty.height == 0
    assert empty.schema["chosen"] == pl.String
    assert empty.schema["margin"] == pl.Float64
    best(FRAME, tmp_path / "b.jsonl", by="id", keep="size:9..", allow_empty=True)
    assert (tmp_path / "b.jsonl").read_text() == ""
