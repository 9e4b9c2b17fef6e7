// pg-boss: fetch a batch, complete the batch. Its maintenance is off, as nothing here needs it.
// https://timgit.github.io/pg-boss/#/./api/jobs
import { createRequire } from "node:module";

const require = createRequire(`${process.env.HYPERDRIP_PEERS}/package.json`);
const { PgBoss } = require("pg-boss");

const [what, connectionString, count] = process.argv.slice(2);
const jobs = Number(count);
const batchSize = 500;
const boss = new PgBoss({ connectionString, supervise: false, schedule: false });
boss.on("error", (error) => console.error(error.message));
await boss.start();

if (what === "enqueue") {
  await boss.createQueue("noop");
  for (let first = 0; first < jobs; first += 5000) {
    const length = Math.min(5000, jobs - first);
    await boss.insert("noop", Array.from({ length }, (_, i) => ({ data: { id: first + i } })));
  }
  console.log("{}");
} else {
  let done = 0;
  let end = 0;
  const start = performance.now();
  for (;;) {
    const batch = await boss.fetch("noop", { batchSize });
    if (batch.length === 0) break;
    await boss.complete("noop", batch.map((job) => job.id));
    done += batch.length;
    end = performance.now();
  }
  console.log(JSON.stringify({ done, seconds: (end - start) / 1000 }));
}
await boss.stop({ graceful: false });
process.exit(0);
