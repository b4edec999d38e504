"""Measure the causal architectures of transformers, and write models.md from what was found.

`python docs/reference/write_models.py` measures what models.jsonl does not hold of the installed
transformers, or holds as an error; architectures that are named are measured anew, and with `--all`
every one. Each has a process and a time limit of its own, and its result is kept at once. `--page`
writes the page alone.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STORED, PAGE = HERE / "models.jsonl", HERE.parent / "models.md"
TESTS = HERE.parents[1] / "tests"
SECONDS = 240
"""Most that one architecture takes."""
LIMIT = 1e-4
"""Largest difference that is rounding, in nats, and of gradients relative to their norm."""
INTRO = """# Models

<!-- Written by docs/reference/write_models.py from docs/reference/models.jsonl. -->

What the causal architectures of transformers {version} do here: {works} work, {padded} of them in
padded micro-batches only; {refused} are refused by name before the first step; {unbuilt} could not
be built small. Each was built with 11 tokens, a layer or two of every kind it has and fresh
weights, saved, loaded, sampled from and trained for a step.

A model that is not here is guarded, too: the first batch of every run compares the sampler's
log-probabilities with those of the training pass, and stops the run where they differ by more than
rounding.

* **sampler**: largest difference between the log-probabilities of the sampled tokens, for prompts
  of 1 to 13 tokens sampled together, and those of the training pass; in nats, float32.
* **rounding**: the same between the training pass, and each sequence alone in float64.
* **packed**: the same between packed micro-batches (`layout = "packed"`) and padded ones. "refused"
  where sequences would see one another: packing is refused when the model is loaded, and
  `layout = "auto"` pads.
* **gradient**: distance of the gradient of GSPO from that of each sequence alone in float64,
  relative to its norm. A star: in float32, because a part of the model has no float64.

"works, to 5e-04" is more than rounding, but less than what stops a run: transformers computes
something else for a token with a cache than for a whole sequence (in NemotronH and Zamba2, no lower
bound of the time steps). `mismatch/*` of [the metrics](reference/metrics.md) tells how much it is;
with `old_logprobs = "recompute"` the ratios are those of the training pass.

"""


def kinds() -> list[str]:
    """Return the architectures with a causal head, as transformers has them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def measured(kind: str, letters: Path) -> dict[str, Any]:
    """Measure one architecture in a process of its own, which may crash or hang."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_child, args=(kind, letters, theirs), daemon=True)
    child.start()
    theirs.close()
    child.join(SECONDS)
    found: dict[str, Any] = {}
    if child.is_alive():
        child.kill()
        child.join()
        found["error"] = f"took more than {SECONDS} seconds"
    try:
        while True:
            found |= ours.recv()
    except EOFError:
        pass
    if child.exitcode and "error" not in found:
        found["error"] = f"its process ended with {child.exitcode}"
    return found


def _child(kind: str, letters: Path, pipe: Connection) -> None:
    from oracles.architectures import stages

    # What matters is sent.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for found in stages(kind, letters, Path(folder)):
                pipe.send({name: _short(value, folder) for name, value in found.items()})
        except BaseException as error:
            pipe.send({"error": f"{type(error).__name__}: {_short(str(error), folder)}"})
            raise


def _short(value: Any, folder: str) -> Any:
    """Return a text as one line without the folder, and a number with two digits."""
    if isinstance(value, float):
        return float(f"{value:.1e}")
    if isinstance(value, str):
        return " ".join(value.split()).replace(f"{folder}/", "")[:400]
    return value


def stored() -> dict[str, dict[str, Any]]:
    """Return what was found so far, by architecture."""
    lines = STORED.read_text(encoding="utf-8").splitlines() if STORED.exists() else []
    return {found["kind"]: found for found in map(json.loads, lines)}


def keep(found: dict[str, dict[str, Any]]) -> None:
    """Write what was found: one line an architecture, in their order."""
    lines = [json.dumps(found[kind], ensure_ascii=False) for kind in sorted(found)]
    STORED.write_text("\n".join(lines) + "\n", encoding="utf-8")


def verdict(found: dict[str, Any]) -> str:
    """Return in a word or two what an architecture can do here."""
    if "class" not in found:
        return "not built"
    if found.get("refused") is not None:
        return "refused"
    if "error" in found or found["gradient"] > LIMIT:
        return "fails"
    if found["packed_refused"] is None and found["packed"] > LIMIT:
        return "fails"
    words = "works" if found["packed_refused"] is None else "works padded only"
    return words if found["sampler"] <= LIMIT else f"{words}, to {found['sampler']:.0e}"


def page() -> str:
    """Return the text of the page."""
    found = stored()
    by: dict[str, list[str]] = {}
    for kind, one in found.items():
        by.setdefault(verdict(one).partition(",")[0], []).append(kind)
    working = sorted(by.get("works", []) + by.get("works padded only", []))
    intro = INTRO.format(
        version=", ".join(sorted({one["transformers"] for one in found.values()})),
        works=len(working),
        padded=len(by.get("works padded only", [])),
        refused=len(by.get("refused", [])),
        unbuilt=len(by.get("not built", [])),
    )
    parts = [intro, *_works(found, working)]
    for title, why in (("refused", "refused"), ("fails", "error"), ("not built", "error")):
        if by.get(title):
            parts += [f"\n## {title.capitalize()}\n", "| architecture | why |", "|---|---|"]
            rows = sorted(by[title])
            parts += [f"| {kind} | {_cell(found[kind].get(why))} |" for kind in rows]
    return "\n".join(parts) + "\n"


def _works(found: dict[str, dict[str, Any]], working: list[str]) -> Iterator[str]:
    yield "## Works\n"
    yield "| architecture | class | sampler | rounding | packed | gradient | verdict |"
    yield "|---|---|--:|--:|--:|--:|---|"
    for kind in working:
        one = found[kind]
        packed = "refused" if one["packed_refused"] else f"{one['packed']:.0e}"
        star = "*" * (one["reference"] != "float64")
        exact = {name: f"{one[name]:.0e}" for name in ("sampler", "rounding", "gradient")}
        cells = [kind, f"`{one['class']}`", exact["sampler"], exact["rounding"] + star, packed]
        cells.append(exact["gradient"] + star)
        yield f"| {' | '.join([*cells, verdict(one)])} |"


def _cell(text: object) -> str:
    return str(text).removeprefix("model 'model'").lstrip(": ").translate({124: "\\|", 60: "&lt;"})


def main() -> None:
    """Measure, keep each result as soon as it is there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if not given.page:
        _measure(given.kinds, everything=given.all)
    PAGE.write_text(page(), encoding="utf-8")


def _measure(asked: list[str], *, everything: bool) -> None:
    sys.path.insert(0, str(TESTS))
    # Once here, not in every process.
    import oracles.architectures  # noqa: F401
    from fixtures.tiny_models import write_letters

    version = importlib.metadata.version("transformers")
    found = stored()
    known = [
        kind for kind, one in found.items() if one["transformers"] == version and "error" not in one
    ]
    wanted = asked or [kind for kind in kinds() if everything or kind not in known]
    with tempfile.TemporaryDirectory() as folder:
        letters = write_letters(Path(folder))
        for kind in wanted:
            one = measured(kind, letters)
            found[kind] = {"kind": kind, "transformers": version, **one}
            keep(found)
            sys.stdout.write(f"{kind}: {verdict(one)} {one.get('error') or ''}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
