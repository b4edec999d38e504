"""What a command says that wrote a file."""

from __future__ import annotations

import sys
from pathlib import Path

from gspo_rs.files.output import Written


def tell(written: Written, target: Path) -> int:
    """Say what was written and dropped, and return the exit code."""
    sys.stdout.write(f"{written.rows:,} rows of {written.groups:,} groups in {target}\n")
    for rule, rows in written.dropped.items():
        sys.stdout.write(f"{rows:,} rows dropped by {rule}\n")
    return 0
