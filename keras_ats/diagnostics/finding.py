"""What a check-up says: one finding for each fault."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is most likely wrong.

    Attributes:
        name: A short name, the same for the same fault.
        seen: What was seen, with numbers.
        means: What it means.
        remedy: What to do.
    """

    name: str
    seen: str
    means: str
    remedy: str

    def __str__(self) -> str:
        """Returns all of it as text."""
        return f"{self.name}\n  seen: {self.seen}\n  means: {self.means}\n  do: {self.remedy}"


class CheckUp:
    """What `check` returns.

    Attributes:
        findings: All findings; empty if nothing is wrong.

    Args:
        findings: What was found.
        samples: How many samples were looked at.

    Example:

    ```python
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    x, y = np.random.rand(60, 8), np.random.randint(0, 3, 60)
    result = keras_ats.check(teacher, student, x, y, verbose=False)
    [finding.name for finding in result.findings]  # an untrained teacher
    ```
    """

    def __init__(self, findings: Sequence[Finding], samples: int) -> None:
        self.findings = list(findings)
        self.samples = samples

    def __bool__(self) -> bool:
        """Returns whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        """Returns all findings as text."""
        if not self.findings:
            return f"Nothing found to be wrong, on {self.samples} samples."
        count = len(self.findings)
        head = f"{count} finding{'s' if count > 1 else ''} on {self.samples} samples."
        return "\n\n".join([head, *(f"{i}. {one}" for i, one in enumerate(self.findings, 1))])

    __repr__ = __str__

    def show(self) -> None:
        """Prints the findings, in colour where rich is installed."""
        if importlib.util.find_spec("rich") is None:
            sys.stdout.write(f"{self}\n")
            return
        from rich.console import Console
        from rich.markup import escape

        console = Console(soft_wrap=True)
        if not self.findings:
            console.print(f"[green]{self}[/green]", highlight=False)
        for index, one in enumerate(self.findings, 1):
            console.print(f"[bold red]{index}. {escape(one.name)}[/bold red]", highlight=False)
            for title, text in zip(("seen", "means", "do"), one[1:], strict=True):
                console.print(f"   [dim]{title}:[/dim] {escape(text)}", highlight=False)
