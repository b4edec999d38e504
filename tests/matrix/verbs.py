"""The verbs of the matrix: how each is called, and what plain Polars says of the same rows."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.testing import assert_allclose

import gspo_rs as gs
from fixtures.commands import call
from gspo_rs import data
from gspo_rs.cli.names import with_stdin
from matrix.containers import Container

# Prompts are one to one with ids; of some containers only the prompts are known.
KEY = "prompt"
REWARD = pl.col("reward")
SCORED = REWARD.count().over(KEY)


@dataclass(frozen=True)
class Cell:
    """A source, the rows that it holds, and a folder for what is written."""

    container: Container
    source: Any
    rows: pl.DataFrame
    folder: Path

    def prompts(self, texts: pl.Series) -> list[Any]:
        """Prompts as this container holds them."""
        return [self.container.as_prompt(text) for text in texts]

    def completions(self, texts: pl.Series) -> list[Any]:
        """Completions as this container holds them."""
        return [self.container.as_completion(text) for text in texts]

    @property
    def columns(self) -> Mapping[str, str]:
        """The names of columns in the container."""
        return self.container.names

    def flat(self, found: pl.DataFrame) -> pl.DataFrame:
        """One row per completion of rows that may have lists of rewards."""
        reward = self.columns["reward"]
        if not isinstance(found[reward].dtype, pl.List):
            return found
        lists = [name for name in found.columns if isinstance(found[name].dtype, pl.List)]
        return found.explode(lists)


def spread() -> pl.Expr:
    return (REWARD.max() - REWARD.min()).over(KEY)


def same(found: list[Any], expected: list[Any]) -> None:
    assert found == expected


def score(cell: Cell) -> None:
    out = cell.folder / "out"
    gs.score(cell.source, out, **cell.container.asked)
    files = sorted(out.rglob("*.parquet"))
    found = cell.flat(pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]))
    rank = REWARD.rank("average").over(KEY)
    share = pl.when(SCORED > 1).then((rank - 1) / (SCORED - 1)).otherwise(0.5)
    unit = (3 * (SCORED - 1) / (SCORED + 1)).sqrt()
    advantage = pl.when(spread() > 0).then((2 * share - 1) * unit).otherwise(0.0)
    expected = cell.rows.select(
        rank=rank,
        percentile=pl.when(REWARD.is_not_null()).then(share),
        advantage=pl.when(REWARD.is_null()).then(0.0).otherwise(advantage),
    )
    for name in expected.columns:
        values = found[name].cast(pl.Float64).fill_null(np.nan)
        assert_allclose(values, expected[name].fill_null(np.nan), rtol=1e-12, atol=1e-15)
    same(found[cell.columns["reward"]].to_list(), cell.rows["reward"].to_list())


def scan(cell: Cell) -> None:
    found = cell.flat(gs.scan(cell.source).collect())
    same(found[cell.columns["reward"]].to_list(), cell.rows["reward"].to_list())
    same(found[cell.columns["answer"]].to_list(), cell.rows["answer"].to_list())
    same(found[cell.columns["prompt"]].to_list(), cell.prompts(cell.rows["prompt"]))


def verify(cell: Cell) -> None:
    manifest = gs.verify(cell.source)
    assert (manifest.rows, manifest.kept) == (cell.rows.height, cell.rows.height)


def stats(cell: Cell) -> None:
    whole, *parts = gs.stats(cell.source, **cell.container.asked)
    groups = cell.rows.group_by(KEY).agg(
        size=pl.len(), differ=REWARD.max() > REWARD.min(), scored=REWARD.count()
    )
    assert not parts
    assert (whole.rows, whole.groups) == (cell.rows.height, groups.height)
    assert whole.unscorable == cell.rows["reward"].null_count()
    assert whole.size == [groups["size"].min(), groups["size"].median(), groups["size"].max()]
    assert_allclose(whole.informative, groups["differ"].fill_null(False).mean())
    assert_allclose(
        [whole.mean, whole.std], [cell.rows["reward"].mean(), cell.rows["reward"].std()]
    )


def report(cell: Cell) -> None:
    page = cell.folder / "page.html"
    gs.report(cell.source, page, **cell.container.asked)
    text = re.sub(r"<[^>]*>|\s+", " ", page.read_text().partition("<body")[2])
    numbers = {
        "(rollouts|completions)": str(cell.rows.height),
        "(groups|prompts)": str(cell.rows[KEY].n_unique()),
        "mean reward": f"{cell.rows['reward'].mean():.3g}",
    }
    for what, number in numbers.items():
        pattern = rf"{what}\W{{1,20}}{number}\b|\b{number}\W{{1,20}}{what}"
        assert re.search(pattern, text), (what, number, text[:1000])


def pairs(cell: Cell) -> None:
    found = gs.pairs(cell.source, **cell.container.asked)
    numbered = cell.rows.with_row_index("row").drop_nulls("reward")
    best = numbered.filter(REWARD.max().over(KEY) == REWARD).group_by(KEY).first()
    worst = numbered.filter(REWARD.min().over(KEY) == REWARD).group_by(KEY).first()
    joined = best.join(worst, on=KEY, suffix="_worst").filter(pl.col("reward_worst") < REWARD)
    order = cell.rows[KEY].unique(maintain_order=True).to_frame()
    expected = order.join(joined, on=KEY, how="inner", maintain_order="left")
    same(found["prompt"].to_list(), cell.prompts(expected[KEY]))
    same(found["chosen"].to_list(), cell.completions(expected["completion"]))
    same(found["rejected"].to_list(), cell.completions(expected["completion_worst"]))
    same(found["chosen_reward"].to_list(), expected["reward"].to_list())


def best(cell: Cell) -> None:
    found = gs.best(cell.source, n=2, **cell.container.asked)
    ranked = cell.rows.with_row_index("row").drop_nulls("reward")
    ranked = ranked.sort(KEY, -REWARD, "row").group_by(KEY, maintain_order=True).head(2)
    first = ranked.group_by(KEY).agg(first=pl.col("row").min())
    expected = ranked.join(first, on=KEY).sort("first", -REWARD, "row")
    same(found["prompt"].to_list(), cell.prompts(expected[KEY]))
    same(found["completion"].to_list(), cell.completions(expected["completion"]))
    same(found["reward"].to_list(), expected["reward"].to_list())


def nest(cell: Cell) -> None:
    found = gs.nest(cell.source, once=[cell.columns["prompt"]], **cell.container.asked)
    expected = cell.rows.group_by(KEY, maintain_order=True).agg("completion", "reward")
    same(found[cell.columns["prompt"]].to_list(), cell.prompts(expected[KEY]))
    same(found[cell.columns["reward"]].to_list(), expected["reward"].to_list())
    completions = [cell.completions(texts) for texts in expected["completion"]]
    same(found[cell.columns["completion"]].to_list(), completions)


def explode(cell: Cell) -> None:
    found = gs.explode(cell.source, once=[cell.columns["prompt"]])
    same(found[cell.columns["reward"]].to_list(), cell.rows["reward"].to_list())
    same(found[cell.columns["prompt"]].to_list(), cell.prompts(cell.rows["prompt"]))
    completions = cell.completions(cell.rows["completion"])
    same(found[cell.columns["completion"]].to_list(), completions)


def filter_rows(cell: Cell) -> None:
    found = cell.flat(gs.filter(cell.source, keep="informative", **cell.container.asked))
    expected = cell.rows.filter(spread() > 0)
    same(found[cell.columns["reward"]].to_list(), expected["reward"].to_list())
    same(found[cell.columns["answer"]].to_list(), expected["answer"].to_list())


def verl(cell: Cell) -> None:
    given = {"ground_truth": cell.columns["answer"], "data_source": "sums"}
    found = gs.verl(cell.source, **given, **cell.container.asked)
    expected = cell.rows.group_by(KEY, maintain_order=True).agg(pl.col("answer").first())
    user = [[{"role": "user", "content": text}] for text in expected[KEY]]
    same(found["prompt"].to_list(), user)
    truths = found["reward_model"].struct.field("ground_truth")
    same(truths.to_list(), expected["answer"].to_list())


def rollouts(cell: Cell) -> None:
    batches = list(data.rollouts(cell.source, batch_groups=4, **cell.container.asked))
    expected = cell.rows.group_by(KEY, maintain_order=True).agg("completion", "reward")
    expected = expected.explode("completion", "reward")
    found = [text for batch in batches for text in batch.completions]
    same(found, cell.completions(expected["completion"]))
    same([text for batch in batches for text in batch.prompts], cell.prompts(expected[KEY]))
    rewards = np.concatenate([batch.reward for batch in batches])
    np.testing.assert_array_equal(rewards, expected["reward"].fill_null(np.nan))


def prompts(cell: Cell) -> None:
    asked = {name: value for name, value in cell.container.asked.items() if name == "prompt"}
    found = data.prompts(cell.source, **asked)
    rows = cell.rows.unique(KEY, maintain_order=True) if cell.container.nested else cell.rows
    same(list(found.texts), cell.prompts(rows["prompt"]))
    same(found.columns[cell.columns["answer"]], rows["answer"].to_list())


def command_line(cell: Cell) -> None:
    target = cell.folder / "copy.parquet"
    assert call(*with_stdin(["scan", cell.source, "-o", target])) == 0
    found = cell.flat(pl.read_parquet(target))
    same(found[cell.columns["reward"]].to_list(), cell.rows["reward"].to_list())
    same(found[cell.columns["prompt"]].to_list(), cell.prompts(cell.rows["prompt"]))


VERBS: dict[str, Callable[[Cell], None]] = {
    "gs.score": score,
    "gs.scan": scan,
    "gs.verify": verify,
    "gs.stats": stats,
    "gs.report": report,
    "gs.pairs": pairs,
    "gs.best": best,
    "gs.nest": nest,
    "gs.explode": explode,
    "gs.filter": filter_rows,
    "gs.verl": verl,
    "data.rollouts": rollouts,
    "data.prompts": prompts,
    "gspo-rs scan": command_line,
}
