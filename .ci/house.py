"""Draw who imports whom between the rooms of the tree and inside them, and count its lines.

    house.py [ROOT]

A room is an entry of `python/gspo_rs` or of `rust/`: a folder of modules, or a module by itself.
The top (`__init__.py`, `lib.rs`) is none, for it hands on what the rooms have. The exit code is 1
if imports run in a circle, also those in functions; those under `TYPE_CHECKING` never run, so
that a circle that only they close is printed and allowed.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from modules import KINDS, TYPES, Import, Modules, Name
from python_modules import python_modules
from rust_modules import rust_modules

BUILT = ("__pycache__", ".so")
TOP = "(top)"
Arrow = tuple[str, str]


def room(name: Name) -> str:
    """Name the room of a module."""
    return name[0] if name else TOP


def spelled(name: Name) -> str:
    """Write the name of a module."""
    return ".".join(name) or TOP


def circles(arrows: Iterable[Arrow]) -> list[list[str]]:
    """Find the sets of nodes that reach one another."""
    after: dict[str, set[str]] = {}
    for source, target in arrows:
        after.setdefault(source, set()).add(target)
    reached: dict[str, set[str]] = {}
    for node in after:
        reached[node], new = set(), {node}
        while new := set().union(*(after.get(at, set()) for at in new)) - reached[node]:
            reached[node] |= new
    found = {
        tuple(sorted(at for at in reached[node] if node in reached.get(at, set())))
        for node in after
    }
    return [list(circle) for circle in sorted(found) if circle]


def floors(arrows: set[Arrow], rooms: list[str]) -> dict[str, int]:
    """How many rooms lie below each room, one upon the other; a circle is on one floor."""
    circle_of = {node: circle for circle in circles(arrows) for node in circle}
    floor = dict.fromkeys(rooms, 0)
    for _ in rooms:
        for source, target in arrows:
            above = target not in circle_of.get(source, ())
            floor[source] = max(floor[source], floor[target] + above)
    return floor


def print_circles(modules: Modules, root: Path, arrows: dict[Arrow, Import]) -> int:
    """Print the circles with each of their arrows once; the number of those that run."""
    run = circles(arrow for arrow, drawn in arrows.items() if drawn.kind != TYPES)
    alone = [circle for circle in circles(arrows) if circle not in run]
    for title, found in (("circle", run), (f"circle {TYPES}, allowed", alone)):
        for circle in found:
            print(f"  {title}: {' '.join(circle)}")
            for (source, target), drawn in sorted(arrows.items()):
                if source in circle and target in circle:
                    place = f"{modules.files[drawn.source].relative_to(root)}:{drawn.line}"
                    print(f"    {place} uses {target} {drawn.kind}".rstrip())
    return len(run)


def drawn(modules: Modules, name: Callable[[Name], str]) -> dict[Arrow, Import]:
    """Arrows between what modules are named, each with the import that says most for it."""
    arrows: dict[Arrow, Import] = {}
    for one in sorted(modules.imports, key=lambda one: (KINDS.index(one.kind), one)):
        if name(one.source) != name(one.target):
            arrows.setdefault((name(one.source), name(one.target)), one)
    return arrows


def draw(modules: Modules, root: Path) -> int:
    """Print the rooms of one language; the number of circles."""
    arrows = drawn(modules, room)
    run = {arrow for arrow, one in arrows.items() if one.kind != TYPES}
    rooms = sorted({room(name) for name in modules.files})
    floor = floors(run, rooms)
    entries = [path for path in modules.folder.iterdir() if not path.name.endswith(BUILT)]
    print(
        f"{modules.folder.relative_to(root)}: {len(entries)} entries, {len({*rooms} - {TOP})} "
        f"rooms on {max(floor.values()) + 1} floors, {len(run)} arrows, {len(modules.files)} "
        f"modules, {sum(modules.lines.values())} lines of code"
    )
    for name in sorted(rooms, key=lambda name: (floor[name], name)):
        lines = sum(count for module, count in modules.lines.items() if room(module) == name)
        below = " ".join(sorted(target for source, target in run if source == name))
        print(f"  {floor[name]:2} {name:16}{lines:6}  {below}".rstrip())
    found = print_circles(modules, root, arrows)
    inside = {
        arrow: one
        for arrow, one in drawn(modules, spelled).items()
        if room(one.source) == room(one.target)
    }
    return found + print_circles(modules, root, inside)


def main() -> int:
    """Draw both languages."""
    root = (Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]).resolve()
    found = sum(draw(modules, root) for modules in (python_modules(root), rust_modules(root)))
    print(f"{found or 'no'} {'circle' if found == 1 else 'circles'}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
