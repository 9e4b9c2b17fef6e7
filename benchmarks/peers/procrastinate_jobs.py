"""procrastinate with many jobs at once in one worker.

https://procrastinate.readthedocs.io/en/stable/howto/advanced/concurrency.html
"""

import asyncio
import json
import sys
import time
from typing import Any

from procrastinate import App, PsycopgConnector

CONCURRENCY = 30


async def work(what: str, url: str, jobs: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=CONCURRENCY))

    @app.task(name="noop")
    async def noop(number: int) -> None:
        pass

    async with app.open_async():
        if what == "enqueue":
            await app.schema_manager.apply_schema_async()
            await noop.batch_defer_async(*({"number": number} for number in range(jobs)))
            print("{}")
            return
        manager = app.job_manager
        fetch_job, finish_job = manager.fetch_job, manager.finish_job
        start, end, done = 0.0, 0.0, 0

        async def noted_fetch(*args: Any, **options: Any) -> Any:
            nonlocal start
            start = start or time.perf_counter()
            return await fetch_job(*args, **options)

        async def noted_finish(*args: Any, **options: Any) -> None:
            nonlocal end, done
            await finish_job(*args, **options)
            done += 1
            end = time.perf_counter()

        manager.fetch_job, manager.finish_job = noted_fetch, noted_finish
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, delete_jobs="successful")
        print(json.dumps({"done": done, "seconds": end - start}))


if __name__ == "__main__":
    what, url, jobs = sys.argv[1:]
    asyncio.run(work(what, url, int(jobs)))
