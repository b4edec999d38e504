"""Draw the plots of losses.md: how strongly a token is pulled, over the ratio of its sequence.

Usage: ``python docs/plots/plot_losses.py``; writes ``docs/images/losses/<name>.svg``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gspo_rs import losses

FOLDER = Path(__file__).parents[1] / "images/losses"
WIDTH, HEIGHT, MARGIN, TOP, BOTTOM, POINTS, LENGTH = 360, 236, 40, 62, 42, 241, 4
# A ground of its own, so that it is read on light and on dark pages.
STYLES = (
    "text{font:11px sans-serif;fill:#444}.title{font-weight:bold;fill:#111}"
    "path{fill:none;stroke:#bbb}"
    ".first{stroke:#1f6feb;stroke-width:2}.second{stroke:#d1662b;stroke-width:2}"
)
BAND, TOKEN = (0.999, 1.001), (0.0, 3.0)

# Loss → its options and the ratios that are drawn.
POLICY: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "gspo": ({}, BAND),
    "gspo_token": ({}, BAND),
    "luspo": ({}, (0.995, 1.005)),
    "gmpo": ({}, TOKEN),
    "grpo": ({"dual_clip": 2.5}, TOKEN),
    "sapo": ({}, TOKEN),
    "cispo": ({"w_max": 2.0}, TOKEN),
    "vespo": ({}, TOKEN),
    "dppo": ({}, TOKEN),
    "reinforce": ({}, TOKEN),
}
GROUP: dict[str, Callable[..., Any]] = {
    "plackett_luce": losses.plackett_luce_loss,
    "pairwise": losses.pairwise_loss,
    "top_fraction": losses.top_fraction_loss,
    "dpo": losses.dpo_loss,
    "ipo": losses.ipo_loss,
}


def policy_weights(name: str, ratios: np.ndarray, advantage: float) -> np.ndarray:
    """Return ``-dL/dl`` of one token, per unit of ``w |A|``, where all its sequence has a ratio.

    Each old probability is 0.3.
    """
    old = torch.full((len(ratios), LENGTH), float(np.log(0.3)), dtype=torch.float64)
    new = old + torch.from_numpy(np.log(np.maximum(ratios, 1e-9)))[:, None]
    new.requires_grad_()
    advantages = torch.full((len(ratios),), advantage, dtype=torch.float64)
    one = torch.ones_like(advantages)
    mask = torch.ones(old.shape, dtype=torch.bool)
    loss_of, options = getattr(losses, f"{name}_loss"), POLICY[name][0]
    loss_of(new, old, advantages, mask, one, **options)[0].backward()
    assert new.grad is not None
    return -new.grad[:, 0].numpy()


def group_weights(name: str, scores: np.ndarray, best: bool) -> np.ndarray:
    """Return ``-dL/dh`` of the best or worst of five, the others at score 0."""
    found = []
    for score in scores:
        h = torch.zeros(5, dtype=torch.float64)
        h[0 if best else 4] = score
        h.requires_grad_()
        GROUP[name](h, [4.0, 3.0, 2.0, 1.0, 0.0], [0] * 5)[0].backward()
        assert h.grad is not None
        found.append(-float(h.grad[0 if best else 4]))
    return np.array(found)


def figure(name: str, x: np.ndarray, series: dict[str, np.ndarray], across_of: str) -> str:
    """Return one SVG with a title and a line for each of the series."""
    low = min(0.0, *(float(y.min()) for y in series.values()))
    high = max(0.0, *(float(y.max()) for y in series.values()))

    def across(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - x[0]) / (x[-1] - x[0])

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    marks = (x[0], (x[0] + x[-1]) / 2, x[-1])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{name}: the pull on a completion over {across_of}</title>",
        f"<style>{STYLES}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>',
        f'<text class="title" x="8" y="18">{name}</text><text x="8" y="{TOP - 12}">pull</text>',
        f'<path d="M{MARGIN} {up(0):.1f}H{WIDTH - MARGIN}M{MARGIN} {up(low):.1f}V{up(high):.1f}"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{across_of}</text>',
        *(f'<text x="{across(m) - 12:.1f}" y="{HEIGHT - 24}">{m:.4g}</text>' for m in marks),
        *(f'<text x="4" y="{up(v) + 4:.1f}">{v:.2g}</text>' for v in sorted({low, 0.0, high})),
    ]
    for i, (label, values) in enumerate(series.items()):
        points = "L".join(f"{across(a):.1f} {up(b):.1f}" for a, b in zip(x, values, strict=True))
        kind = "second" if i else "first"
        lines += [
            f'<path class="{kind}" d="M{points}"/>',
            f'<path class="{kind}" d="M{MARGIN + 10 + 130 * i} 30h18"/>',
            f'<text x="{MARGIN + 32 + 130 * i}" y="34">{label}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, (_, (low, high)) in POLICY.items():
        ratios = np.linspace(low, high, POINTS)
        signs = {"A = 1": 1.0, "A = -1": -1.0}
        drawn = {label: policy_weights(name, ratios, sign) for label, sign in signs.items()}
        (FOLDER / f"{name}.svg").write_text(figure(name, ratios, drawn, "the ratio"))
    scores = np.linspace(-4.0, 4.0, 81)
    for name in GROUP:
        drawn = {"best of 5": group_weights(name, scores, True)}
        drawn["worst of 5"] = group_weights(name, scores, False)
        (FOLDER / f"{name}.svg").write_text(figure(name, scores, drawn, "its score"))
