"""Draws inner_layers.png: which method compares what of two networks.

Run: python docs/images/inner_layers.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

LEVELS = ["input", "stage 1", "stage 2", "stage 3", "mean", "logits"]
# Level, its name in the figure, and what stands on the arrow.
COMPARED = [
    (1.5, "Hint, VID, OFD: through a projector\nKnowledgeReview: through all deeper stages"),
    (2.5, "AttentionTransfer, NeuronSelectivity:\nwhere, not which channel"),
    (3.5, "GaussianWasserstein: mean and spread\nReusedClassifier, ClassAttention: with the head"),
    (
        4.5,
        "relations of samples: SP, RKD, PKT, CC\nContrastiveRepresentation; Hint(pool=True)",
    ),
    (5.5, "soft targets: ATS and all losses on logits"),
]
COLOURS = {"student": "#4c78a8", "teacher": "#b279a2"}


def draw(path: Path) -> None:
    """Writes the picture."""
    figure, axes = pyplot.subplots(figsize=(9, 5.2))
    for x, role, width in ((0.0, "student", 1.4), (8.0, "teacher", 2.2)):
        for level, name in enumerate(LEVELS):
            y = level + 0.15
            box = FancyBboxPatch(
                (x - width / 2, y), width, 0.6, "round,pad=0.04", fc=COLOURS[role], ec="none"
            )
            axes.add_patch(box)
            axes.text(x, y + 0.3, name, ha="center", va="center", color="white", fontsize=10)
            if level:
                axes.annotate(
                    "",
                    (x, y - 0.05),
                    (x, y - 0.35),
                    arrowprops={"arrowstyle": "->", "color": "0.4"},
                )
        axes.text(x, 6.05, role, ha="center", va="bottom", color=COLOURS[role], fontsize=12)
    for y, text in COMPARED:
        axes.add_patch(
            FancyArrowPatch(
                (0.85, y - 0.05),
                (6.75, y - 0.05),
                arrowstyle="<->",
                mutation_scale=12,
                color="0.35",
            )
        )
        axes.text(3.8, y, text, ha="center", va="bottom", fontsize=8.5, linespacing=1.25)
    axes.set_xlim(-1.2, 9.4)
    axes.set_ylim(-0.1, 6.5)
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
