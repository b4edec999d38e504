"""Draw the plots of estimators.md: the advantage of each member of a sample group over reward.

Usage: ``python docs/plots/plot_estimators.py``; writes ``docs/images/estimators/<name>.svg``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gspo_rs as gs

FOLDER = Path(__file__).parents[1] / "images/estimators"
WIDTH, HEIGHT, MARGIN, TOP, BOTTOM = 360, 236, 40, 62, 42

# Twelve rubric scores: ties at 3 and 7, and one outlier.
REWARDS = np.array([1.0, 3.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.0, 8.0, 9.0, 16.0])
LENGTHS = np.array([900, 120, 300, 450, 200, 150, 700, 380, 220, 90, 640, 110])
# A second group shares the batch with the first, for those that look at all of it.
OTHERS = np.array([4.0, 5.0, 5.0, 6.0])
# A ground of its own, so that it is read on light and on dark pages.
STYLES = (
    "text{font:11px sans-serif;fill:#444}.title{font-weight:bold;fill:#111}"
    "path{fill:none;stroke:#bbb}circle{fill:#1f6feb}.second{fill:#d1662b}"
)

# Figure → what is drawn in it: estimator and options, one series of points each.
FIGURES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "percentile": [("percentile", {})],
    "percentile_pool": [("percentile", {"pool": [2.0, 4.0, 6.0, 8.0]})],
    "top_fraction": [("top_fraction", {"q": 0.2}), ("top_fraction", {"q": 0.5})],
    "normal": [("normal", {}), ("normal", {"scores": "blom"})],
    "soft_winrate": [("soft_winrate", {"tau": 0.3}), ("soft_winrate", {"tau": 3.0})],
    "gopo": [("gopo", {})],
    "mean": [("mean", {})],
    "rloo": [("rloo", {})],
    "zscore": [("zscore", {})],
    "batch_std": [("batch_std", {})],
    "reinforce_pp": [("reinforce_pp", {})],
    "quantile": [("quantile", {"k": 0.4}), ("quantile", {"k": 0.8})],
    "maxrl": [("maxrl", {})],
    "best_minus_second": [("best_minus_second", {})],
    "pass_at_k": [
        ("pass_at_k", {"k": 2, "threshold": 7.0}),
        ("pass_at_k", {"k": 4, "threshold": 7.0}),
    ],
    "pkpo": [("pkpo", {"k": 2}), ("pkpo", {"k": 4})],
    "opo": [("opo", {})],
    "gdpo": [("gdpo", {"weights": [1.0, 0.5]})],
    "borda": [("borda", {"weights": [1.0, 0.5]})],
}


def advantages(estimator: str, options: dict[str, Any]) -> np.ndarray:
    """Return the advantages of the sample group, shape (12,)."""
    rewards = np.concatenate([REWARDS, OTHERS])
    lengths = np.concatenate([LENGTHS, np.full(len(OTHERS), 300)])
    ids = np.repeat([0, 1], [len(REWARDS), len(OTHERS)])
    if estimator == "opo":
        options = options | {"lengths": lengths}
    if estimator in ("gdpo", "borda"):
        rewards = np.stack([rewards, -lengths / 1000], axis=1)
    return gs.advantage(rewards, ids, estimator, **options)[: len(REWARDS)]


def label(options: dict[str, Any]) -> str:
    """Return the options as they are written in a call."""
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "defaults"


def figure(name: str, series: list[tuple[str, dict[str, Any]]]) -> str:
    """Return one SVG with a title and the points of every series."""
    found = [advantages(estimator, options) for estimator, options in series]
    low, high = min(0.0, *map(np.min, found)), max(0.0, *map(np.max, found))
    span = (high - low) or 1.0

    def x(reward: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * reward / 16

    def y(advantage: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (advantage - low) / span

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{name}: the advantage of each completion over its reward</title>",
        f"<style>{STYLES}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>',
        f'<text class="title" x="8" y="18">{name}</text>',
        f'<text x="8" y="{TOP - 12}">advantage</text>',
        f'<path d="M{x(0)} {y(0):.1f}H{x(16)}M{x(0)} {y(low):.1f}V{y(high):.1f}"/>',
        f'<text x="{x(8)}" y="{HEIGHT - 8}" text-anchor="middle">reward</text>',
        *(f'<text x="{x(r) - 3:.1f}" y="{HEIGHT - 24}">{r}</text>' for r in (0, 4, 8, 12, 16)),
        *(f'<text x="4" y="{y(v) + 4:.1f}">{v:.2g}</text>' for v in sorted({low, 0.0, high})),
    ]
    for i, ((_, options), values) in enumerate(zip(series, found, strict=True)):
        kind = ' class="second"' if i else ""
        lines += [
            f'<circle{kind} cx="{x(r):.1f}" cy="{y(v):.1f}" r="4"/>'
            for r, v in zip(REWARDS, values, strict=True)
        ]
        lines += [
            f'<circle{kind} cx="{MARGIN + 14 + 160 * i}" cy="30" r="4"/>',
            f'<text x="{MARGIN + 22 + 160 * i}" y="34">{label(options)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, series in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(figure(name, series))
