"""How all figures look: readable in print, in grey, and for the colour-blind."""

from typing import Any

# Okabe and Ito's colours, ordered so that neighbours differ in lightness too; markers repeat what
# colours say.
COLORS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#9a9a9a"


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of this size in inches, without a window.

    Raises:
        ImportError: If matplotlib is missing, with the extra to install.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib, which is not installed. Install the extra: "
            "pip install 'keras-ats[plot]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def clean(axes: Any, title: str = "", x: str = "", y: str = "") -> Any:
    """Names what axes show and takes away what they need not."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def look(index: int) -> dict[str, Any]:
    """Returns colour and marker of the line of this number."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def short(name: str, length: int = 18) -> str:
    """Returns a name that fits below a bar."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
