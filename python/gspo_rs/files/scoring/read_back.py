"""Read an output back: its rows with their scores, and a check of their integrity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from gspo_rs.data.addresses import scan_addresses
from gspo_rs.data.column_names import free_name
from gspo_rs.data.formats import is_text, rows_of_each, scan_files
from gspo_rs.data.formats.unions import union
from gspo_rs.data.hive import partitions
from gspo_rs.data.paths import remote
from gspo_rs.data.source import KEY, NUMBER, Source
from gspo_rs.files.scoring.first_pass import narrow_frames, scores_of
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.manifest import InputEntry, Manifest, load
from gspo_rs.files.scoring.nested_inputs import split_sources
from gspo_rs.files.scoring.options import columns_of, options_of
from gspo_rs.files.scoring.staging import foreign_files

__all__ = ["rows_and_files", "scan", "verify"]


def scan(target: str | Path) -> pl.LazyFrame:
    """Scan the output of `gspo_rs.score`: all columns of the rows, with their scores.

    Parameters
    ----------
    target : path
        The folder or file. A narrow output is joined lazily to the files that were scored, row by
        row.

    Returns
    -------
    LazyFrame
        In the order of the input.

    Raises
    ------
    FileNotFoundError
        If it has no manifest, or a file that was scored is gone.
    ValueError
        If a file of the output is not what was written, one that was scored has changed since, or
        rows of a LazyFrame were scored narrow.

    Notes
    -----
    All bytes of the output are read for their digests, and of files that were scored narrow the ids
    and the rewards; everything else is left to the LazyFrame.

    Examples
    --------
    >>> import tempfile, gspo_rs as gs
    >>> frame = pl.DataFrame({"prompt_id": ["a", "a"], "reward": [0.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = gs.score(frame, Path(folder) / "out", by="prompt_id")
    ...     scan(Path(folder) / "out").select("reward", "percentile").collect().rows()
    [(0.0, 0.0), (1.0, 1.0)]
    """
    output = Path(target)
    manifest = load(output)
    files = _files(output, manifest)
    for path, entry in zip(files, manifest.outputs, strict=True):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        if damage := entry.damage(output):
            raise ValueError(f"{path} {damage}; score again")
    if manifest.options["layout"] == "wide":
        return scan_files(list(map(str, files)), _hive(manifest))
    return _joined(output, manifest)


def rows_and_files(target: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Scan a narrow output as `scan` does, and list the files that are read."""
    manifest = load(target)
    given = [entry.path for entry in manifest.inputs if entry.path is not None]
    return scan(target), [*given, *map(str, _files(target, manifest))]


def verify(target: str | Path) -> Manifest:
    """Check every file of an output of `gspo_rs.score` against its manifest.

    Parameters
    ----------
    target : path
        The folder or file.

    Returns
    -------
    Manifest
        What was made of what.

    Raises
    ------
    FileNotFoundError
        If it has no manifest.
    ValueError
        If a file is missing, changed or foreign; names all of them.

    Examples
    --------
    >>> verify("/nowhere")
    Traceback (most recent call last):
        ...
    FileNotFoundError: /nowhere has no manifest; it is no output of `gspo-rs score`
    """
    if not isinstance(target, str | PathLike):
        raise TypeError(
            f"a {type(target).__name__} has no manifest; give the folder or file that `gspo-rs "
            "score` wrote"
        )
    output = Path(target)
    manifest = load(output)
    problems = []
    for path, entry in zip(_files(output, manifest), manifest.outputs, strict=True):
        if damage := entry.damage(output):
            problems.append(f"{entry.name} {damage}")
        elif (rows := _height(pl.scan_parquet(path, glob=False))) != entry.rows:
            problems.append(f"{entry.name} has {rows} rows instead of {entry.rows}")
    if output.is_dir():
        problems += [f"{name} is foreign" for name in foreign_files(output, manifest)]
    if problems:
        raise ValueError(f"{output}: {'; '.join(problems)}")
    return manifest


def _files(output: Path, manifest: Manifest) -> list[Path]:
    return [entry.place(output) for entry in manifest.outputs]


def _refuse_other_rows(source: pl.LazyFrame, given: InputEntry, manifest: Manifest) -> None:
    """Raise if the ids and rewards of a file are not those that were scored."""
    options = options_of(by=manifest.options["by"], reward=manifest.options["reward"])
    found = Input(Source(source, str(given.path)), "")
    with TemporaryDirectory(prefix="gspo_rs-") as spill:
        scores, row = scores_of(options, Path(spill), checked=False), 0
        for frame in narrow_frames(found, options):
            row += scores.push(frame, row)
        if (row, scores.end_file()) != (given.rows, given.digest):
            raise ValueError(f"{given.path} has other rows than were scored; score it again")


def _hive(manifest: Manifest) -> pl.DataFrame | None:
    """Return what the folders of the files say: outputs lie below folders of the same names."""
    return partitions([entry.name for entry in manifest.outputs])


def _joined(output: Path, manifest: Manifest) -> pl.LazyFrame:
    """Put all rows beside all scores: file by file, Polars would take quadratic time."""
    sources = _sources(output, manifest)
    differing = union(sources, [str(given.path) for given in manifest.inputs])
    rows = pl.concat(sources) if differing is None else differing.frame()
    for place, given in enumerate(manifest.inputs):
        source = sources[place] if differing is None else differing.only(place)
        _refuse_other_rows(source, given, manifest)
    files = _files(output, manifest)
    scores = [pl.scan_parquet(file, glob=False, hive_partitioning=False) for file in files]
    if manifest.options["keep"] == "all":
        return pl.concat([rows, pl.concat(scores)], how="horizontal")
    number = free_name(rows.collect_schema(), "row")
    columns = columns_of(manifest.options["estimator"], manifest.options.get("suffix", ""))
    firsts = accumulate((given.rows for given in manifest.inputs), initial=0)
    numbered = [
        found.select((pl.col("row") + first).cast(pl.get_index_type()).alias(number), *columns)
        for found, first in zip(scores, firsts, strict=False)
    ]
    chosen = rows.with_row_index(number).join(
        pl.concat(numbered), on=number, how="inner", maintain_order="left"
    )
    return chosen.drop(number)


def _sources(folder: Path, manifest: Manifest) -> list[pl.LazyFrame]:
    """Scan what was scored; text files have the types that they had together."""
    hive = _hive(manifest)
    paths = [given.path for given in manifest.inputs if given.path and is_text(given.path)]
    if len(paths) < len(manifest.inputs):
        frames = [
            _source(folder, given, hive if hive is None else hive[number : number + 1], manifest)
            for number, given in enumerate(manifest.inputs)
        ]
        names = [str(given.path) for given in manifest.inputs]
        sources = [Source(*pair) for pair in zip(frames, names, strict=True)]
        return [source.frame for source in _split(sources, manifest)]
    for path, given in zip(paths, manifest.inputs, strict=True):
        _refuse_change(path, given)
    keys = [(key, KEY) for key in manifest.options["by"]]
    sources = [Source(rows, str(folder)) for rows in rows_of_each(paths, hive)]
    for source in sources:
        if "nested" not in manifest.options:
            source.check([*keys, (manifest.options["reward"], NUMBER)])
    return [source.frame for source in _split(sources, manifest)]


def _split(sources: list[Source], manifest: Manifest) -> Sequence[Source]:
    """Return one row per completion of what had one per prompt."""
    options = manifest.options
    if "nested" not in options:
        return sources
    by = None if options["nested"] == "rows" else options["by"]
    return split_sources(sources, every=True, by=by, reward=options["reward"])


def _source(
    folder: Path, given: InputEntry, hive: pl.DataFrame | None, manifest: Manifest
) -> pl.LazyFrame:
    if given.path is None:
        raise ValueError(
            f"{folder} has the scores of rows that are in no file here; join its files to them "
            'with pl.concat([rows, pl.scan_parquet(…)], how="horizontal")'
        )
    path = given.path
    if not remote(path):
        _refuse_change(path, given)
    frame = scan_addresses([path]) if remote(path) else scan_files([path], hive)
    # Where it is cheap, or the only thing that tells a change.
    countable = remote(path) or Path(path).suffix.lower() == ".parquet"
    counted = countable and "nested" not in manifest.options
    rows = _height(frame) if counted else given.rows
    if rows != given.rows:
        raise ValueError(f"{given.path} has {rows} rows, {given.rows} were scored; score it again")
    return frame


def _height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _refuse_change(path: str, given: InputEntry) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}, which was scored, is gone; put it back, or score it anew where it is now"
        )
    found = Path(path).stat()
    if (found.st_size, found.st_mtime_ns) != (given.size, given.mtime_ns):
        raise ValueError(f"{path} has changed since it was scored; score it again")
