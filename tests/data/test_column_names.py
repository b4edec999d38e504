"""Columns called like patterns, and fields by dotted names, in every command."""

import polars as pl
import polars.selectors as cs
import pytest

import gspo_rs as gs
from fixtures.formats import WRITERS, write
from gspo_rs import data
from gspo_rs.data.column_names import column
from gspo_rs.data.group_index import index_groups
from gspo_rs.data.prompt_table import prompts
from gspo_rs.files import best, nested, selection, summary
from gspo_rs.files.pairs import pairs
from gspo_rs.files.verl import verl
from gspo_rs.report import report

KEYS = ["p", "q", "p", "q"]
REWARDS = [0.0, 1.0, 1.0, 0.5]
TEXTS = ["a", "b", "c", "d"]
ODD = ["*", "^re.*$", "^.*$", "a b", "%", "", "x.y", "$A", "-n", "{}", "^(.*)$"]


def commands(source, folder, names):
    """What every command says of four rows in two groups; `names` are key, reward and texts."""
    by, reward, prompt, completion = names
    said = {"by": by, "reward": reward}
    told = {**said, "prompt": prompt, "completion": completion}
    for layout in ("wide", "narrow"):
        for keep in ("all", "top:1"):
            out = folder / f"{layout}-{keep.replace(':', '')}"
            gs.score(source, out, layout=layout, keep=keep, **said)
            yield gs.scan(out).collect()["percentile"].to_list() == [0.0, 1.0, 1.0, 0.0]
    yield [s.mean for s in summary.summarize(source, per=by, **said)] == [0.625, 0.5, 0.75]
    best.best(source, folder / "best.parquet", **told)
    found = pl.read_parquet(folder / "best.parquet")
    yield sorted(found["completion"]) == ["b", "c"] and sorted(found["prompt"]) == ["p", "q"]
    pairs(source, folder / "pairs.jsonl", **told)
    yield sorted(pl.read_ndjson(folder / "pairs.jsonl")["chosen"]) == ["b", "c"]
    selection.select(source, folder / "chosen.parquet", keep="best:1", **said)
    chosen = selection.apply(selection.read_selection(folder / "chosen.parquet")).collect()
    yield chosen.height == 2
    verl(source, folder / "v.parquet", ground_truth=completion, data_source="d", prompt=prompt,
         by=[by, completion], reward=reward)  # fmt: skip
    yield pl.read_parquet(folder / "v.parquet").height == 4
    yield index_groups(source, **said).n_groups == 2
    rolled = next(iter(data.rollouts(source, **told)))
    yield rolled.completions == ["a", "c", "b", "d"] and rolled.reward.tolist() == [0, 1, 1, 0.5]
    page = report(source, folder / "r.html", **told).read_text()
    yield ">2<" in page or "2 groups" in page or bool(page)
    read = prompts(source, prompt=prompt, columns=[reward])
    yield read.texts == KEYS and list(map(float, read.columns[reward])) == REWARDS


@pytest.mark.slow
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("first", range(4))
def test_a_name_is_no_pattern(tmp_path, suffix, first):
    # Each of the four is each of the columns once.
    odd = ["*", "^re.*$", "x.y", "a b"]
    names = odd[first:] + odd[:first]
    # What the pattern would match comes first, and is something else.
    decoys = {"real": [9.0, 8.0, 9.0, 8.0], "x": [1, 2, 3, 4]}
    columns = dict(zip(names, [KEYS, REWARDS, KEYS, TEXTS], strict=True))
    source = write(pl.DataFrame(decoys | columns), tmp_path / f"rows{suffix}")
    assert all(commands(source, tmp_path, names))


@pytest.mark.parametrize("name", ODD)
def test_a_column_is_found_by_its_whole_name(name):
    others = {other: [0] for other in (*ODD, "real", "a") if other != name}
    frame = pl.DataFrame(others | {name: [7]})
    assert frame.lazy().select(column(name).alias("found")).collect()["found"].to_list() == [7]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("odd", ["*", "^re.*$", "a b", "row", "position", "c0", "part0"])
def test_lists_and_rows_take_any_names(tmp_path, suffix, odd):
    frame = pl.DataFrame({"real": [1, 2, 3, 4], odd: TEXTS, "key": KEYS, "reward": REWARDS})
    source = write(frame, tmp_path / f"rows{suffix}")
    nested.nest(source, tmp_path / f"lists{suffix}", by="key")
    nested.explode(tmp_path / f"lists{suffix}", tmp_path / "again.parquet")
    assert pl.read_parquet(tmp_path / "again.parquet").rows() == frame.sort("key").rows()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".arrow"])
@pytest.mark.parametrize("field", ["id", "*", "^i.*$", "a.b"])
def test_a_field_is_reached_by_a_dotted_name(tmp_path, suffix, field):
    rows = [
        {
            "meta": {field: k, "ix": "z"},
            "scores": {"of": {field: r, "ix": 0.0}},
            "texts": {field: k, "ix": t},
        }
        for k, r, t in zip(KEYS, REWARDS, TEXTS, strict=True)
    ]
    source = write(pl.DataFrame(rows), tmp_path / f"rows{suffix}")
    names = [f"meta.{field}", f"scores.of.{field}", f"texts.{field}", "texts.ix"]
    assert all(commands(source, tmp_path, names))


def test_a_missing_field_is_no_column():
    frame = pl.DataFrame({"meta": [{"id": 1}], "reward": [1.0]})
    with pytest.raises(ValueError, match=r"no column 'meta.ID'"):
        index_groups(frame, by="meta.ID")


def test_a_list_of_texts_is_no_reward_and_one_of_numbers_is_a_group(tmp_path):
    frame = pl.DataFrame({"id": ["a"], "reward": [[0.0, 1.0]], "prompt": ["p"]})
    for suffix in (".parquet", ".jsonl"):
        source = write(frame, tmp_path / f"lists{suffix}")
        assert index_groups(source, by="id").n_rollouts == 2
        with pytest.raises(TypeError, match=r"'reward'.*must be a number or a bool"):
            index_groups(frame.with_columns(reward=pl.Series([["a", "b"]])), by="id")
        assert gs.score(source, tmp_path / f"out{suffix}.parquet", by="id").rows == 2


@pytest.mark.parametrize("name", ["*", "^re.*$", "^.*$"])
def test_rewards_and_ids_of_any_name_are_scored(name):
    from datasets import Dataset

    from gspo_rs.integrations.datasets import score

    rows = {"real": [5.0, 5.0, 9.0], name: [0.0, 1.0, None], "id": ["a", "a", "b"]}
    scored = score(Dataset.from_dict(rows), by="id", reward=name)
    assert scored["percentile"][:] == [0.0, 1.0, None]
    swapped = {"real": ["x"] * 3, name: ["a", "a", "b"], "reward": [0.0, 1.0, 2.0]}
    assert score(Dataset.from_dict(swapped), by=name)["group_size"][:] == [2, 2, 1]
    assert gs.rank(pl.Series(name, [0.5, None, 1.0]), ["a", "a", "a"]).to_list()[::2] == [1.0, 2.0]
    lists_of = pl.DataFrame({"real": [[9.0]], name: [[0.0, 1.0]]})
    found = lists_of.select(cs.by_name(name).as_expr().gspo.rank())
    assert found.to_series().alias("ranks").to_list() == [[1.0, 2.0]]


def test_fields_of_extra_info_may_be_called_like_patterns(tmp_path):
    info = [{"*": 1, "^i.*$": 2, "index_": 3}] * 2
    rows = {"prompt": ["p", "p"], "a": ["1", "1"], "reward": [0.0, 1.0], "extra_info": info}
    target = tmp_path / "v.parquet"
    verl(pl.DataFrame(rows), target, by="prompt", ground_truth="a", data_source="d")
    (found,) = pl.read_parquet(target)["extra_info"].to_list()
    assert {name: found[name] for name in info[0]} == info[0]
