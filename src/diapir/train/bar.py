"""The progress bar of training: loss, score, images/s and time left."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingBar:
    """A live bar on a terminal, and one line an epoch elsewhere; both on standard error.

    Args:
        title: what is trained.
        total: steps of all stages.
        done: steps that an earlier sitting took.
    """

    def __init__(self, title: str, *, total: int, done: int, shown: bool = True) -> None:
        console = Console(stderr=True)
        self.live = console.is_terminal
        self.shown = shown
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and self.live),
        )
        self.task = self.progress.add_task(title, total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, stage: str, *, loss: float, score: float | None, images_per_s: float) -> None:
        """One optimiser step was taken."""
        figures = f"{stage}  loss {loss:.3f}  score {_shown(score)}  {images_per_s:.0f} images/s"
        self.progress.update(self.task, advance=1, figures=figures)

    def shorten(self, steps: int) -> None:
        """So many steps will not be taken."""
        total = self.progress.tasks[0].total
        self.progress.update(self.task, total=None if total is None else total - steps)

    def epoch(self, line: str) -> None:
        """One epoch is done."""
        if not self.shown:
            return
        if self.live:
            self.progress.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
