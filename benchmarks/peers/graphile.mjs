// graphile-worker as its own performance page runs it: 24 concurrent jobs, a local queue of 500,
// completions in batches. https://worker.graphile.org/docs/performance
import { EventEmitter } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.HYPERDRIP_PEERS}/package.json`);
const { Logger, makeWorkerUtils, run } = require("graphile-worker");

const [what, connectionString, count] = process.argv.slice(2);
const jobs = Number(count);
const logger = new Logger(() => () => {});

if (what === "enqueue") {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  for (let first = 0; first < jobs; first += 5000) {
    const length = Math.min(5000, jobs - first);
    await utils.addJobs(
      Array.from({ length }, (_, i) => ({ identifier: "noop", payload: { id: first + i } })),
    );
  }
  await utils.release();
  console.log("{}");
} else {
  const events = new EventEmitter();
  let start = 0;
  let done = 0;
  // Connected, and the schema looked at: the next thing is to ask for jobs.
  events.once("pool:create", () => (start = performance.now()));
  const finished = new Promise((resolve) => {
    // It comes once the result is in the database.
    events.on("job:complete", () => {
      done += 1;
      if (done === jobs) resolve();
    });
  });
  await run({
    logger,
    events,
    taskList: { noop: async () => {} },
    preset: {
      worker: {
        connectionString,
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  await finished;
  console.log(JSON.stringify({ done, seconds: (performance.now() - start) / 1000 }));
  process.exit(0);
}
