"""pgqueuer with its fastest driver, in batches, until its queue is empty.

https://github.com/janbjorge/pgqueuer/blob/main/docs/development/benchmark.md
"""

import json
import sys
import time
from typing import Any

import asyncpg
import uvloop
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = 1000


async def enqueue(url: str, jobs: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    await queries.install()
    for first in range(0, jobs, 5000):
        size = min(5000, jobs - first)
        await queries.enqueue(["noop"] * size, [b"{}"] * size, [0] * size)
    print("{}")


async def drain(url: str) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    dequeue, log_jobs = queries.dequeue, queries.log_jobs
    start, end, done = 0.0, 0.0, 0

    async def noted_dequeue(*args: Any, **options: Any) -> Any:
        nonlocal start
        start = start or time.perf_counter()
        return await dequeue(*args, **options)

    async def noted_log(items: Any) -> None:
        nonlocal end, done
        await log_jobs(items)
        done += len(items)
        end = time.perf_counter()

    queries.dequeue, queries.log_jobs = noted_dequeue, noted_log
    manager = QueueManager(queries)

    @manager.entrypoint("noop")
    async def noop(_job: Job) -> None:
        pass

    await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    print(json.dumps({"done": done, "seconds": end - start}))


if __name__ == "__main__":
    what, url, jobs = sys.argv[1:]
    uvloop.run(enqueue(url, int(jobs)) if what == "enqueue" else drain(url))
