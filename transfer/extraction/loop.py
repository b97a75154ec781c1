"""The extraction loop: batches of images are read and decoded, computed, and written.

Its parts are put together by the modules that run it: `transfer.extraction.extract` for the images of a data set, and
`layertap.ramp.batch_rows` for the images that a RAMP workflow has transformed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from transfer.engines.batch import Batch
from transfer.engines.runner import BatchRunner
from transfer.extraction.writing import FeatureWriter, StageTimer


def run(
    batches: Iterable[Batch],
    runner: BatchRunner,
    writer: FeatureWriter,
    timer: StageTimer | None = None,
    after_batch: Callable[[Batch], None] = lambda batch: None,
) -> None:
    """Compute the features of all batches and write them.

    All stages work at the same time: images are decoded in threads ahead of the loop, the runner computes several
    batches at once, and a thread writes what has been computed. The loop itself only hands over.

    Parameters
    ----------
    batches : iterable of Batch
        Inputs of the net, read and decoded as they are taken (see `transfer.extraction.reading`).
    runner : BatchRunner
        The stage that computes, by an engine.
    writer : FeatureWriter
        The stage that writes; it is opened and closed here.
    timer : StageTimer, optional
        A counter of the seconds that the loop waits for each stage.
    after_batch : callable
        A function that is called with each batch once its features have been handed to the writer.

    Raises
    ------
    LayertapError
        If a stage fails. What was computed before is written.
    """
    timer = timer or StageTimer()
    with writer:
        timer.lap("prepare")
        for batch, features in runner.run(timer.timed("decode", batches)):
            timer.lap("compute")
            writer.write(batch, features)
            timer.lap("write")
            after_batch(batch)
    timer.lap("write")
    timer.move("compute", "prepare", runner.making)
