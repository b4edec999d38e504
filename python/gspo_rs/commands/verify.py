"""`gspo-rs verify`."""

import sys
from pathlib import Path

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.parameters import Verbose


def verify(
    target: Path,
    /,
    *,
    verbose: Verbose = False,
) -> int:
    """Check every file of an output against its manifest.

    Parameters
    ----------
    target
        The folder that `gspo-rs score` has written.
    """
    from gspo_rs.files.verify import verify as verify_output

    try:
        manifest = verify_output(target)
    except KeyboardInterrupt:
        return interrupted("stopped; nothing was changed")
    except TOLD as error:
        return told(error, verbose=verbose)
    sys.stdout.write(f"{len(manifest.outputs)} files, {manifest.kept:,} rows: as written\n")
    return 0
