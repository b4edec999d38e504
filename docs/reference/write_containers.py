"""Write containers.md from the matrix of the tests: `python docs/reference/write_containers.py`."""

import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("containers.md")
TESTS = Path(__file__).resolve().parents[2] / "tests"
INTRO = """# Containers

What each verb reads. Every cell is a test (`tests/matrix/`). With a tick the values are those that
plain Polars computes from the same rows; with a number the error says what to do instead; a blank
is for frames, which a command line does not have. This page is written from that table:
`python docs/reference/write_containers.py`.

A source is one container, or several files, globs or folders of one format. In Python it is the
first argument. `rollouts` and `prompts` are of `gspo_rs.data`: training reads through them.

"""


def page() -> str:
    """Return the text of the page."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    from matrix.containers import CONTAINERS
    from matrix.refusals import applies, refusal
    from matrix.verbs import VERBS

    found = {(verb, name): refusal(verb, name) for name in CONTAINERS for verb in VERBS}
    reasons = list(dict.fromkeys(filter(None, found.values())))

    def cell(verb: str, name: str) -> str:
        if not applies(verb, name):
            return ""
        why = found[verb, name]
        return "✓" if why is None else str(reasons.index(why) + 1)

    def lines() -> Iterator[str]:
        short = [verb.rpartition(".")[2] for verb in VERBS]
        yield f"| container | given as | {' | '.join(short)} |"
        yield f"|---|---|{':-:|' * len(short)}"
        for name, container in CONTAINERS.items():
            cells = " | ".join(cell(verb, name) for verb in VERBS)
            yield f"| {name} | {container.given} | {cells} |"
        yield ""
        for number, why in enumerate(reasons, 1):
            yield f"{number}. {why.reason}"

    return INTRO + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
