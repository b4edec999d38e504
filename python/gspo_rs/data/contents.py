"""What a file holds by its first bytes, where that is not what its name says."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["contents", "refuse_foreign"]

HEAD = 512

PICKLE = "a pickle, which can run any code when it is loaded, and is never loaded here"
AS_PARQUET = "if you trust it, write its rows with pandas.read_pickle(…).to_parquet(…)"
POINTER = b"version https://git-lfs"
UNPACK = "unpack it first, and give the file or folder that comes out"

# What begins a file, with what it is and what to do with it.
BEGINNINGS: Mapping[bytes, tuple[str, str]] = {
    b"SQLite format 3\0": (
        "a SQLite database",
        "write its rows with: sqlite3 -header -csv FILE 'SELECT * FROM table' > rows.csv",
    ),
    b"\x89HDF\r\n\x1a\n": ("HDF5", "write its rows with pandas.read_hdf(…).to_parquet(…)"),
    b"\x93NUMPY": ("an array of NumPy", "give a dict of columns in Python"),
    b"Obj\x01": ("Avro", "write its rows with polars.read_avro(…).write_parquet(…)"),
    b"ORC": ("ORC", "write its rows with pandas.read_orc(…).to_parquet(…)"),
    b"%PDF": ("a PDF", "give a file of rows"),
    b"BZh": ("packed with bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ\0": ("packed with xz", "unpack it with unxz"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    POINTER: ("a pointer of Git LFS", "fetch the file itself: git lfs pull"),
}
# The same of what is read here, with the suffixes that say so.
KNOWN: Mapping[bytes, tuple[str, tuple[str, ...]]] = {
    b"PAR1": ("Parquet", (".parquet",)),
    b"ARROW1": ("Arrow", (".arrow", ".arrows", ".ipc", ".feather")),
    b"\x1f\x8b": ("packed with gzip", (".gz",)),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", (".zst",)),
}


def refuse_foreign(file: str) -> None:
    """Raise if the first bytes of a file are of another kind than its suffix says.

    Raises
    ------
    ValueError
        Says what it is, and what to do with it.
    """
    if (found := contents(file)) is not None:
        what, remedy = found
        raise ValueError(f"{file} is {what}; {remedy}")


def contents(file: str | Path) -> tuple[str, str] | None:
    r"""Return what a file is and what to do with it, or None where its suffix may be right.

    A file that can't be opened may be right: whoever reads it says why it can't be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.jsonl"
    ...     _ = path.write_bytes(b"PAR1\x15")
    ...     contents(path)
    ('Parquet', 'its name has to end in .parquet: rename it')
    """
    path = Path(file)
    try:
        with path.open("rb") as handle:
            head = handle.read(HEAD)
    except OSError:
        return None
    # Names of columns may begin as a file of another kind does: CSV has no such bytes.
    binary = any(byte < 9 or 13 < byte < 32 for byte in head)
    for start, (what, suffixes) in KNOWN.items():
        if binary and head.startswith(start):
            if path.suffix.lower() in suffixes:
                return None
            if head.startswith(b"\x1f\x8b") and (path.suffix == ".tgz" or ".tar" in path.suffixes):
                return "a tar archive", UNPACK
            return what, f"its name has to end in {suffixes[0]}: rename it"
    for start, found in BEGINNINGS.items():
        if (binary or start == POINTER) and head.startswith(start):
            return found
    answers = (tell(path, head) for tell in RULES)
    return next((one for one in answers if one is not None), None)


def _pickle(path: Path, head: bytes) -> tuple[str, str] | None:
    binary = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    named = path.suffix.lower() in (".pkl", ".pickle")
    return (PICKLE, AS_PARQUET) if binary or named else None


def _zip(path: Path, head: bytes) -> tuple[str, str] | None:
    if not head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a zip archive that is damaged", "get it anew"
    if any(name.endswith("data.pkl") for name in names):
        return f"written by torch.save: {PICKLE}", "write its rows as Parquet or JSON Lines"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook", "save the sheet as CSV, or give pandas.read_excel(…) in Python"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy", "give a dict of columns in Python: dict(numpy.load(…))"
    return "a zip archive", UNPACK


def _tar(_: Path, head: bytes) -> tuple[str, str] | None:
    return ("a tar archive", UNPACK) if head[257:262] == b"ustar" else None


def _safetensors(_: Path, head: bytes) -> tuple[str, str] | None:
    size = int.from_bytes(head[:8], "little")
    found = head[8:10] == b'{"' and 0 < size < 100 << 20
    return (
        ("safetensors, which holds tensors and no rows", "give a file of rows") if found else None
    )


def _duckdb(_: Path, head: bytes) -> tuple[str, str] | None:
    remedy = "write its rows with: duckdb FILE \"COPY table TO 'rows.parquet'\""
    return ("a DuckDB database", remedy) if head[8:12] == b"DUCK" else None


def _markup(_: Path, head: bytes) -> tuple[str, str] | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, such as a failed download leaves", "download the file anew"
    return ("XML", "give a file of rows") if text.startswith(b"<?xml") else None


RULES: tuple[Callable[[Path, bytes], tuple[str, str] | None], ...] = (
    _pickle,
    _zip,
    _tar,
    _duckdb,
    _markup,
    _safetensors,
)
