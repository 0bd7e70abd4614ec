// An application that knows nothing of shards, with node-postgres, for test_sharded.py.
// Arguments: host, port, owners.

import { createRequire } from "node:module";

// `import` does not look at NODE_PATH, `require` does.
const { Client } = createRequire(import.meta.url)("pg");

const [host, port, ...owners] = process.argv.slice(2);
const client = new Client({ host, port: Number(port), database: "items", user: "postgres" });
await client.connect();
for (const owner of owners) {
  await client.query("BEGIN");
  await client.query("INSERT INTO accounts (owner, balance) VALUES ($1, 100)", [owner]);
  await client.query("INSERT INTO entries (owner, id, amount) VALUES ($1, 1, -30)", [owner]);
  await client.query({
    name: "less",
    text: "UPDATE accounts SET balance = balance - $2 WHERE owner = $1",
    values: [owner, 30],
  });
  await client.query("COMMIT");
  await client.query("BEGIN");
  await client.query("DELETE FROM entries WHERE owner = $1", [owner]);
  await client.query("ROLLBACK");
  const found = await client.query(
    "SELECT a.balance, e.amount FROM accounts a JOIN entries e USING (owner) WHERE owner = $1",
    [owner],
  );
  if (JSON.stringify(found.rows) !== '[{"balance":70,"amount":-30}]') process.exit(1);
}
await client.end();
