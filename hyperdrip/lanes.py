"""Several lanes of one worker: while one of them waits for the database, another one sends.

Each lane is a `Worker` with a connection and a number of its own, in a thread of its own. They
share the sender and the wish to stop; all that holds for several workers holds for them.

Several workers keep a server busy by themselves: a second lane would only be one more that the
others wait for. So it is for a worker that is alone, and ends when there is another one.

A lane that has lost the reply to a claim looks its messages up by its number: under one number it
would send what another lane has claimed meanwhile.
"""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from hyperdrip.models import WorkerSummary
from hyperdrip.signals import Stop
from hyperdrip.worker import Worker

COUNTS = ("sent", "failed", "retried", "unknown", "skipped", "rolled_over")


def run_lanes(lanes: Sequence[Worker], stop: Stop) -> WorkerSummary:
    """Run all lanes until they end, the first in this thread; what they did, all in all.

    `stop` is the one that they go by: a lane that breaks ends the others. All but the first are
    closed in their own threads: nobody else can use a connection that waits for an answer.

    Raises: whatever broke a lane, once the others have finished what they had in flight. What is no
    Exception, such as a second signal, is passed on at once, and the others are told to stop.
    """
    summaries: list[WorkerSummary] = []
    errors: list[BaseException] = []

    def run(lane: Worker) -> None:
        try:
            with closing(lane):
                summaries.append(lane.run())
        except BaseException as error:  # noqa: BLE001 - it is raised again once all have ended
            errors.append(error)
            stop.set()

    threads = [
        threading.Thread(target=run, args=[lane], name="hyperdrip-lane", daemon=True)
        for lane in lanes[1:]
    ]
    for thread in threads:
        thread.start()
    try:
        try:
            summaries.append(lanes[0].run())
        except Exception as error:  # noqa: BLE001 - as above
            errors.append(error)
            stop.set()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        raise
    if errors:
        raise errors[0]
    counts = {name: sum(getattr(part, name) for part in summaries) for name in COUNTS}
    refusals = (part.refusal for part in summaries if part.refusal is not None)
    # The lane that ended last knows best what is left.
    return replace(summaries[-1], **counts, refusal=next(refusals, None))
