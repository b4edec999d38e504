"""Every container and layout of the matrix: how rows are written in it and are asked for."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

import gspo_rs as gs
from matrix.rows import COLUMNS


@dataclass(frozen=True)
class Container:
    """One way in which rows may come.

    Attributes
    ----------
    given : str
        How a person gives it, for the page.
    make : callable
        Writes rows into a folder, and returns what is given as the source.
    asked : mapping
        What names the columns: `by`, `prompt`, `completion`, `reward`; nothing if it is known.
    kept : callable
        The rows that are read, in their order, from those that were written.
    as_prompt, as_completion : callable
        A text as the container holds it.
    nested : bool
        Whether a row is a prompt with lists.
    in_memory : bool
        Whether it is for Python only.
    names : mapping
        What the columns are called in it.
    """

    given: str
    make: Callable[[pl.DataFrame, Path], Any]
    asked: Mapping[str, str] = field(default_factory=lambda: {"by": "prompt_id"})
    kept: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    as_prompt: Callable[[str], Any] = str
    as_completion: Callable[[str], Any] = str
    nested: bool = False
    in_memory: bool = False
    names: Mapping[str, str] = field(default_factory=lambda: {name: name for name in COLUMNS})


def _file(name: str, write: Callable[[pl.DataFrame, Path], Any]) -> Callable[..., Path]:
    def make(rows: pl.DataFrame, folder: Path) -> Path:
        write(rows, folder / name)
        return folder / name

    return make


def _lines(rows: pl.DataFrame) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.iter_rows(named=True))
    return text.encode()


def _several_files(rows: pl.DataFrame, folder: Path) -> str:
    for number, start in enumerate(range(0, rows.height, 17)):
        rows[start : start + 17].write_parquet(folder / f"part-{number}.parquet")
    return str(folder / "part-*.parquet")


def _hive(rows: pl.DataFrame, folder: Path) -> Path:
    for (model,), part in rows.partition_by("model", as_dict=True).items():
        below = folder / "data" / f"model={model}"
        below.mkdir(parents=True)
        part.drop("model").write_parquet(below / "rows.parquet")
    return folder / "data"


def _arrow_stream(rows: pl.DataFrame, path: Path) -> None:
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


def _dataset(rows: pl.DataFrame, _: Path) -> Any:
    import datasets

    return datasets.Dataset.from_polars(rows)


def _save_to_disk(rows: pl.DataFrame, folder: Path) -> Path:
    _dataset(rows, folder).save_to_disk(folder / "saved")
    return folder / "saved"


def _zstd(rows: pl.DataFrame, path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(_lines(rows))


def nested(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per prompt: its members as lists, in the order of the first rows."""
    return rows.group_by("prompt_id", maintain_order=True).agg(
        pl.col("prompt", "answer").first(), "completion", "reward", "model"
    )


def by_group(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows group after group."""
    lists = nested(rows)
    return lists.explode("completion", "reward", "model").select(rows.columns)


def as_user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def as_assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _messages(rows: pl.DataFrame, path: Path) -> None:
    as_messages = [
        row | {"prompt": as_user(row["prompt"]), "completion": as_assistant(row["completion"])}
        for row in rows.iter_rows(named=True)
    ]
    pl.DataFrame(as_messages).write_parquet(path)


def _tsv(rows: pl.DataFrame, path: Path) -> None:
    path.write_bytes(gzip.compress(rows.write_csv(separator="\t").encode()))


VERL = {"prompt": "input", "completion": "output", "reward": "score", "answer": "gts"}


def _verl_dump(rows: pl.DataFrame, path: Path) -> None:
    dump = rows.select(pl.col(ours).alias(theirs) for ours, theirs in VERL.items())
    path.write_bytes(_lines(dump.with_columns(step=pl.lit(3))))


def _scored(layout: str) -> Callable[[pl.DataFrame, Path], Path]:
    def make(rows: pl.DataFrame, folder: Path) -> Path:
        rows.write_parquet(folder / "rows.parquet")
        gs.score(folder / "rows.parquet", folder / "scored", by="prompt_id", layout=layout)
        return folder / "scored"

    return make


def _selection(rows: pl.DataFrame, folder: Path) -> Path:
    rows.write_parquet(folder / "rows.parquet")
    target = folder / "chosen.parquet"
    options = {"by": "prompt_id", "keep": "scored", "layout": "narrow"}
    gs.filter(folder / "rows.parquet", target, **options)
    return target


CONTAINERS = {
    "Parquet file": Container("`rows.parquet`", _file("rows.parquet", pl.DataFrame.write_parquet)),
    "Parquet files by a glob": Container('`"part-*.parquet"`', _several_files),
    "hive folder": Container(
        "`data/`, with `data/model=small/rows.parquet` in it",
        _hive,
        kept=lambda rows: rows.sort("model", maintain_order=True),
    ),
    "JSONL": Container(
        "`rows.jsonl`, or `.ndjson`",
        _file("rows.jsonl", lambda rows, path: path.write_bytes(_lines(rows))),
    ),
    "JSONL, gzip": Container(
        "`rows.jsonl.gz`",
        _file("rows.jsonl.gz", lambda rows, path: path.write_bytes(gzip.compress(_lines(rows)))),
    ),
    "JSONL, zstd": Container("`rows.jsonl.zst`", _file("rows.jsonl.zst", _zstd)),
    "JSON array": Container("`rows.json`", _file("rows.json", pl.DataFrame.write_json)),
    "CSV": Container("`rows.csv`", _file("rows.csv", pl.DataFrame.write_csv)),
    "TSV, gzip": Container("`rows.tsv.gz`", _file("rows.tsv.gz", _tsv)),
    "Arrow file": Container(
        "`rows.arrow`, `.ipc` or `.feather`", _file("rows.arrow", pl.DataFrame.write_ipc)
    ),
    "Arrow stream": Container("`rows.arrows`", _file("rows.arrows", _arrow_stream)),
    "save_to_disk folder": Container("`saved/`, of `datasets`", _save_to_disk),
    "standard input": Container(
        "`-`", _file("stdin", lambda rows, path: path.write_bytes(_lines(rows)))
    ),
    "one row per prompt": Container(
        "lists of completions and rewards, without `--by`",
        _file("nested.parquet", lambda rows, path: nested(rows).write_parquet(path)),
        asked={},
        kept=by_group,
        nested=True,
    ),
    "messages": Container(
        "prompts and completions as lists of `{role, content}`",
        _file("messages.parquet", _messages),
        as_prompt=as_user,
        as_completion=as_assistant,
    ),
    "rollouts of verl": Container(
        "`3.jsonl`, a dump of verl, without `--by`",
        _file("3.jsonl", _verl_dump),
        asked={},
        names=VERL,
    ),
    "wide output folder": Container("`scored/`, of `score`", _scored("wide")),
    "narrow output folder": Container("`scored/`, of `score --layout narrow`", _scored("narrow")),
    "selection": Container(
        "`chosen.parquet`, of `filter --layout narrow`",
        _selection,
        kept=lambda rows: rows.drop_nulls("reward"),
    ),
    "DataFrame of Polars": Container(
        "`frame`, or a LazyFrame", lambda rows, _: rows, in_memory=True
    ),
    "DataFrame of pandas": Container("`frame`", lambda rows, _: rows.to_pandas(), in_memory=True),
    "Dataset of datasets": Container("`dataset`", _dataset, in_memory=True),
}
