"""A data set for verl's trainers: the prompts of scored groups, straight from scored files.

``data.custom_cls.path=pkg://gspo_rs.integrations.verl_data`` and
``data.custom_cls.name=PromptDataset`` choose it, ``+data.gspo_rs.by=prompt_id`` names the groups.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from datasets import Dataset, Value
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from gspo_rs.data.outputs import manifest_file
from gspo_rs.data.schema import as_keys
from gspo_rs.data.source import Source
from gspo_rs.files.resolve import resolve_source
from gspo_rs.files.verl import GroupPrompts, Recipe, prompts

__all__ = ["OPTIONS", "PromptDataset"]

OPTIONS = ("by", "ground_truth", "data_source", "ability", "split", "reward", "keep", "threshold")
"""What ``data.gspo_rs`` may hold: the attributes of `gspo_rs.files.verl.Recipe`."""

NAMED_BY = {
    "prompt": "data.prompt_key",
    "reward_model": "+data.gspo_rs.ground_truth",
    "data_source": "+data.gspo_rs.data_source",
}


class PromptDataset(RLHFDataset):  # type: ignore[misc]  # verl is Any to a type checker
    """verl's own data set, whose rows are the prompts of scored groups.

    verl makes it, from ``data.custom_cls``. An item has what verl's `RLHFDataset` gives for the
    file that ``gspo-rs verl`` writes, and tokenisation, filters and samples are verl's.

    Parameters
    ----------
    data_files : str or list of str
        Files with one completion a row; or one folder that `gspo_rs.score` wrote, wide or narrow;
        or one selection file of `gspo_rs.files.selection`. Files of verl's own, which have
        ``reward_model`` but neither ids nor rewards, are read as verl reads them, because
        verl has one class for training and validation.
    tokenizer : PreTrainedTokenizer
        Of the policy.
    config : DictConfig
        verl's ``data``. ``data.gspo_rs`` says how a prompt is made of a group: ``by``, which is
        needed, ``ground_truth``, ``data_source``, ``ability``, ``split``, ``reward``, ``keep``,
        ``threshold``; the prompts are in ``data.prompt_key``.
    processor : ProcessorMixin, optional
        As verl has it.
    max_samples : int
        How many prompts there are at most; -1 for all.

    Raises
    ------
    ValueError
        If ``data.gspo_rs`` lacks ``by`` or has an unknown option, several folders or selections
        are given, the rows have images, videos or sounds; or as `gspo_rs.files.verl.prompts`.
    TypeError, OSError
        As there.

    Notes
    -----
    Completions are not read. A row per group goes to an Arrow file under ``data.cache_dir``, which
    is mapped into memory and loses its name at once: the disk is free again when the process
    is gone. Loaders read the map in forked workers, without Polars.
    """

    def _read_files_and_tokenize(self) -> None:
        recipe = _recipe(self.config, self.prompt_key)
        source = _source(self.data_files)
        if _is_verls_own(source, recipe):
            super()._read_files_and_tokenize()
            return
        _refuse_media(source, {self.image_key, self.video_key, self.audio_key})
        cache = Path(self.cache_dir)
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="gspo_rs-") as folder:
            file = Path(folder) / "prompts.arrow"
            # What is nested in lines of JSON keeps the keys that it has, and gains none.
            written = source.as_written(typed=["extra_info"])
            _write(prompts(source, recipe, NAMED_BY, written), self.prompt_key, file)
            dataset = Dataset.from_file(str(file))
            nested = [n for n, kind in dataset.features.items() if kind == Value("large_binary")]
            if nested:
                dataset = dataset.with_transform(partial(_decoded, nested))
            if 0 < self.max_samples < len(dataset):
                dataset = dataset.select(self._sample(len(dataset)))
            self.dataframe = self.maybe_filter_out_long_prompts(dataset)

    def _sample(self, total: int) -> list[int]:
        """Choose the rows that verl would choose."""
        if not self.shuffle:
            return list(range(self.max_samples))
        rng = np.random.default_rng(self.seed)
        return [int(row) for row in rng.choice(np.arange(total), self.max_samples, replace=False)]


def _decoded(nested: list[str], batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Give the columns that are written as JSON as the objects that they are."""
    return batch | {name: [json.loads(text) for text in batch[name]] for name in nested}


def _recipe(config: Any, prompt: str) -> Recipe:
    node = config.get("gspo_rs") or OmegaConf.create()
    given: dict[str, Any] = OmegaConf.to_container(node, resolve=True)
    unknown = sorted(given.keys() - set(OPTIONS))
    if unknown:
        raise ValueError(f"unknown option data.gspo_rs.{unknown[0]}; known: {', '.join(OPTIONS)}")
    if "by" not in given:
        raise ValueError("which rows are a group? name their column: +data.gspo_rs.by=prompt_id")
    return Recipe(prompt=prompt, **given)


def _source(files: list[str]) -> Source:
    if len(files) == 1:
        return resolve_source(files[0])
    for file in files:
        if manifest_file(Path(file)):
            raise ValueError(f"{file} is one of {len(files)} sources; give one scored folder alone")
    return resolve_source(files)


def _is_verls_own(source: Source, recipe: Recipe) -> bool:
    schema = set(source.check([]))
    return "reward_model" in schema and not schema & {*as_keys(recipe.by), recipe.reward}


def _refuse_media(source: Source, keys: set[str]) -> None:
    found = sorted(keys & set(source.check([])))
    if found:
        problem = f"{source.name} has a column {found[0]!r}; this data set serves text alone"
        raise ValueError(f"{problem}: write the prompts with `gspo-rs verl`, or drop the column")


def _write(found: GroupPrompts, key: str, file: Path) -> None:
    """Write the prompts as an Arrow stream that `datasets` can map."""
    # Views of strings and lists with a dictionary are newer than what `datasets` reads.
    oldest = pl.CompatLevel.oldest()

    def table(frame: pl.DataFrame) -> pa.Table:
        return frame.rename({"prompt": key}).to_arrow(compat_level=oldest)

    schema = table(found.schema.to_frame()).schema
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for frame in found.frames:
            stream.write_table(table(frame))
