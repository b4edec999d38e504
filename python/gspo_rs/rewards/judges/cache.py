"""Replies of judges, kept by what they were asked."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import GradingError

__all__ = ["Cache", "digest_of"]


def digest_of(*values: Any) -> bytes:
    """Return the SHA-256 of JSON values, in which the order of keys does not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


class Cache:
    """A file of replies in a folder, which several processes may share.

    Parameters
    ----------
    folder : Path
        Made if absent.

    Raises
    ------
    GradingError
        If it cannot be opened or is damaged; names it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "replies.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = sqlite3.connect(self._file, timeout=60.0, check_same_thread=False)
            self._rows.execute("PRAGMA journal_mode = WAL")
            # What is lost with the power is asked for again.
            self._rows.execute("PRAGMA synchronous = NORMAL")
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def get(self, key: bytes) -> str | None:
        """Return the reply that was kept; None if there is none."""
        try:
            found = self._rows.execute("SELECT text FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return None if found is None else str(found[0])

    def put(self, replies: Mapping[bytes, str]) -> None:
        """Keep replies."""
        try:
            with self._rows:
                self._rows.executemany(
                    "INSERT OR REPLACE INTO replies VALUES (?, ?)", replies.items()
                )
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def _failed(self, error: Exception) -> GradingError:
        return GradingError(
            f"the cache of replies {self._file} cannot be used: {error}; mend or remove it, or name"
            " another folder with --cache"
        )
