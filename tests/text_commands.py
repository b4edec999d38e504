"""What reads rows, one function per command, and files, for tests that ask the same of all."""

import json

import polars as pl

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.files.best import best
from gspo_rs.files.nested import to_lists, to_rows
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import apply, read_selection, select
from gspo_rs.files.summary import summarize
from gspo_rs.files.verl import verl
from gspo_rs.report import report

HEADER = "id,prompt,completion,reward\n"
SOUND = HEADER + "".join(f"{i // 4},p{i // 4},c{i},{i % 3}\n" for i in range(12))
LINES = "".join(
    json.dumps({"id": i // 4, "prompt": f"p{i // 4}", "completion": f"c{i}", "reward": i % 3})
    + "\n"
    for i in range(12)
)


def put(folder, name, text):
    folder.mkdir(exist_ok=True)
    raw = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(raw)
    return folder / name


def score(source, folder, layout):
    gs.score(source, folder / "out", by="id", layout=layout)
    return gs.scan(folder / "out").collect()


def chosen(source, folder):
    select(source, folder / "chosen.parquet", by="id", keep="all")
    return apply(read_selection(folder / "chosen.parquet")).collect()


def listed(source, folder):
    to_lists(source, folder / "lists.parquet", by="id")
    return pl.read_parquet(folder / "lists.parquet").explode("reward")


def prompted(source, folder):
    given = {"ground_truth": "completion", "data_source": "sums"}
    verl(source, folder / "verl.parquet", by=["id", "completion"], **given)


def paired(source, folder):
    pairs(source, folder / "pairs.parquet", by="id")


def picked(source, folder):
    best(source, folder / "best.parquet", by="id", n=100)
    return pl.read_parquet(folder / "best.parquet")


# Those that hand on every row return them; `rows` wants lists, and gets past every line only.
COMMANDS = {
    "wide": lambda source, folder: score(source, folder, "wide"),
    "narrow": lambda source, folder: score(source, folder, "narrow"),
    "stats": lambda source, folder: summarize(source, by="id") and None,
    "report": lambda source, folder: report(source, folder / "page.html", by="id") and None,
    "select": chosen,
    "pairs": paired,
    "best": picked,
    "lists": listed,
    "verl": prompted,
    "census": lambda source, _: data.take_census(source, by="id") and None,
    "train": lambda source, _: list(data.rollouts(source, by="id")) and None,
    "shuffled": lambda source, _: list(data.rollouts(source, by="id", shuffle=True)) and None,
    "scan": lambda source, _: data.scan(source).collect(),
}
REFUSING = {
    **COMMANDS,
    "rows": lambda source, folder: to_rows(source, folder / "rows.parquet"),
    "prompts": lambda source, _: data.prompts(source),
}
