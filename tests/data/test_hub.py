"""Data sets of the hub: by name, and in the folders of its cache, split by split."""

import sys

import datasets
import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.data.source import locate
from gspo_rs.files import selection

FRAME = pl.DataFrame({"id": ["a", "b", "a"], "reward": [0.0, 1.0, 0.5]})
OTHER = pl.DataFrame({"id": ["c"], "reward": [1.0]})
NAMES = {
    "shards": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001-0a1b.parquet"),
    "files": ("train.parquet", "test.parquet"),
    "folders": ("train/rows.parquet", "eval/rows.parquet"),
    "words": ("my-train-rows.parquet", "my_dev_rows.parquet"),
}


def cached(folder, names, *, main=True):
    """Make what the cache of the hub has of a data set: links to blobs in a snapshot."""
    root = folder / "datasets--org--name"
    snapshot = root / "snapshots" / "0123abcd"
    (root / "blobs").mkdir(parents=True)
    for number, (name, frame) in enumerate(zip(names, (FRAME, OTHER), strict=True)):
        blob = root / "blobs" / f"{number:064x}"
        frame.write_parquet(blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    (snapshot / "README.md").write_text("# A data set")
    if main:
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("0123abcd")
    return root


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("main", [True, False])
def test_a_folder_of_the_cache_is_read_split_by_split(tmp_path, kind, main):
    root = cached(tmp_path, NAMES[kind], main=main)
    second = "validation" if kind == "words" else "test"
    assert locate(root, "train").frame.collect().equals(FRAME)
    assert locate(root, second).frame.collect().equals(OTHER)
    words = r"holds the splits .*train.*; name one with --split \(split='.*'\)"
    with pytest.raises(ValueError, match=words):
        data.scan(root)
    with pytest.raises(ValueError, match="and none is called 'all'"):
        locate(root, "all")


def test_a_cache_of_several_versions_without_a_current_one_is_refused(tmp_path):
    root = cached(tmp_path, NAMES["files"], main=False)
    (root / "snapshots" / "ffff").mkdir()
    with pytest.raises(ValueError, match="has the versions 0123abcd, ffff; give one of"):
        data.scan(root)


def test_a_cache_that_lacks_its_version_is_refused(tmp_path):
    root = cached(tmp_path, NAMES["files"])
    (root / "refs" / "main").write_text("gone")
    with pytest.raises(FileNotFoundError, match="has no files of its version gone"):
        data.scan(root)


def test_a_split_of_a_saved_dict_is_read_by_name(tmp_path):
    splits = {name: datasets.Dataset.from_polars(f) for name, f in (("a", FRAME), ("b", OTHER))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert locate(tmp_path / "saved", "b").frame.collect().equals(OTHER)
    assert locate(datasets.DatasetDict(splits), "a").frame.collect().equals(FRAME)
    for source in (tmp_path / "saved", datasets.DatasetDict(splits)):
        with pytest.raises(ValueError, match="holds the splits a, b, and none is called 'c'"):
            locate(source, "c")


def test_a_split_of_a_plain_folder_is_told_by_the_names_of_its_files(tmp_path):
    FRAME.write_csv(tmp_path / "train.csv")
    OTHER.write_csv(tmp_path / "test.csv")
    assert locate(tmp_path, "test").frame.collect().equals(OTHER)
    assert data.scan(tmp_path).collect().height == 4


@pytest.mark.parametrize("source", [FRAME, [{"id": 1}], "rows.parquet", "s3://bucket/a.parquet"])
def test_a_split_of_what_has_none_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.write_parquet("rows.parquet")
    with pytest.raises(ValueError, match="split='train' is for data sets and folders that have"):
        locate(source, "train")


@pytest.fixture
def on_the_hub(monkeypatch, tmp_path):
    """Stand in for the hub: data sets in Arrow files, as `load_dataset` gives them."""
    splits = {"train": FRAME, "test": OTHER}
    for name, frame in splits.items():
        datasets.Dataset.from_polars(frame).save_to_disk(tmp_path / name)
    asked = []

    def load_dataset(name):
        asked.append(name)
        return {split: datasets.load_from_disk(str(tmp_path / split)) for split in splits}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize("name", ["org/name", "hf://datasets/org/name"])
def test_a_name_that_is_no_path_is_a_data_set_of_the_hub(on_the_hub, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = locate(name, "train")
    assert found.frame.collect().equals(FRAME)
    assert (found.name, on_the_hub) == (name, ["org/name"])
    with pytest.raises(ValueError, match=f"{name} holds the splits train, test; name one with --s"):
        locate(name)


def test_a_data_set_of_the_hub_is_scored_narrow_and_read_back(on_the_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gs.score(locate("org/name", "train"), "out", by="id", layout="narrow")
    assert gs.scan("out").collect()["rank"].to_list() == [1.0, 1.0, 2.0]
    selection.write_selection("chosen.parquet", locate("org/name", "train"), [1], 3)
    chosen = selection.apply(selection.read_selection("chosen.parquet"))
    assert chosen.collect().equals(FRAME[1:2])


def test_a_path_that_is_there_is_never_a_name_of_the_hub(on_the_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    with pytest.raises(FileNotFoundError, match="no such file: org/name"):
        locate("org/name")
    with pytest.raises(FileNotFoundError, match=r"no such file: other/name\.jsonl"):
        locate("other/name.jsonl")
    assert on_the_hub == []


def test_a_data_set_that_cannot_be_had_is_one_error_that_names_both(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def offline(name):
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    words = r"^no such file: org/name; and no data set of the hub: Couldn't reach 'org/name' on the"
    with pytest.raises(FileNotFoundError, match=words):
        locate("org/name")


def test_several_configurations_are_one_error_that_lists_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def several(name):
        raise ValueError("Config name is missing.\nPlease pick one among: ['main', 'socratic']")

    monkeypatch.setattr(datasets, "load_dataset", several)
    words = r"org/name: Config name is missing\. Please pick one among: .*socratic.*load_dataset"
    with pytest.raises(ValueError, match=words):
        locate("org/name")


def test_a_name_of_the_hub_without_its_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    words = r"no such file: org/name; .* pip install 'gspo_rs\[datasets\]'"
    with pytest.raises(FileNotFoundError, match=words):
        locate("org/name")
