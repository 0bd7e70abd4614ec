// Runs node-postgres through the router and prints what it saw as JSON, for test_node.py.
// Arguments: host, port, database.

import { createRequire } from "node:module";

// `import` does not look at NODE_PATH, `require` does.
const { Client, Pool } = createRequire(import.meta.url)("pg");

const [host, port, database] = process.argv.slice(2);
const settings = { host, port: Number(port), database, user: "postgres" };
const seen = {};

const client = new Client({ ...settings, application_name: "node" });
await client.connect();
const notices = [];
client.on("notice", (notice) => notices.push(notice.message));

seen.application_name = (await client.query("SHOW application_name")).rows[0].application_name;
seen.values = (
  await client.query("SELECT $1::int AS n, $2::text AS t, $3::jsonb AS j, $4::text AS nothing", [
    7,
    "wörd",
    { a: [1] },
    null,
  ])
).rows[0];

const named = (n) => ({ name: "twice", text: "SELECT $1::int * 2 AS twice", values: [n] });
seen.named = [];
for (let n = 0; n < 5; n++) seen.named.push((await client.query(named(n))).rows[0].twice);

seen.several = (await client.query("SELECT 1 AS a; SELECT 2 AS a")).map((r) => r.rows[0].a);

seen.errors = [];
for (const text of ["SELECT 1/0", "SELEKT"]) {
  await client.query(text).catch((error) => seen.errors.push(error.code));
  await client.query(text, []).catch((error) => seen.errors.push(error.code));
}

await client.query("BEGIN");
await client.query("CREATE TEMP TABLE node_rows (id int) ON COMMIT DROP");
for (let n = 0; n < 10; n++) await client.query("INSERT INTO node_rows VALUES ($1)", [n]);
seen.count = (await client.query("SELECT count(*)::int AS n FROM node_rows")).rows[0].n;
await client.query("ROLLBACK");

await client.query("DO $$ BEGIN RAISE NOTICE 'from node'; END $$");
seen.notices = notices;

// Queries that the client queues and sends as soon as the one before is answered.
const queued = Array.from({ length: 100 }, (_, n) => client.query("SELECT $1::int AS n", [n]));
seen.queued = (await Promise.all(queued)).map((result) => result.rows[0].n);
await client.end();

// More clients than servers, which prepare different texts by the same name.
const pool = new Pool({ ...settings, max: 6 });
const mixed = Array.from({ length: 120 }, async (_, n) => {
  const from = await pool.connect();
  try {
    from.salt ??= n;
    const query = { name: "same", text: `SELECT $1::int + ${from.salt} AS n`, values: [n] };
    return (await from.query(query)).rows[0].n - from.salt;
  } finally {
    from.release();
  }
});
seen.mixed = await Promise.all(mixed);
await pool.end();

console.log(JSON.stringify(seen));
