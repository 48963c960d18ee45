// Be there, and see it: with the generated TypeScript client, against the service that HEADCOUNT_URL names.

import assert from "node:assert/strict";
import { createClient } from "../../../target/sdks/typescript/client/index.js";
import { getRoster, heartbeats, join, leave, putUser, roomEvents } from "../../../target/sdks/typescript/sdk.gen.js";
import type { DiffFrame, SnapshotFrame } from "../../../target/sdks/typescript/types.gen.js";

const env = (name: string): string => process.env[name] ?? assert.fail(`${name} is not set`);
const connect = (auth: string) => createClient({ baseUrl: env("HEADCOUNT_URL"), auth, throwOnError: true });
const server = connect(env("HEADCOUNT_SERVER_KEY"));
const user = connect(env("HEADCOUNT_TOKEN"));
const room = "typescript";
const session = crypto.randomUUID();

const stored = await putUser({ client: server, path: { id: "ann" }, body: { name: "Ann Berg" }, throwOnError: true });
assert.equal(stored.data.name, "Ann Berg");

// The frames come without the names of their events, which a callback gets just before.
const names: (string | undefined)[] = [];
const abort = new AbortController();
const { stream } = await roomEvents({
  client: user, path: { room }, signal: abort.signal, onSseEvent: ({ event, data }) => data !== undefined && void names.push(event),
});
async function next<Frame>(name: string): Promise<Frame> {
  for (;;) {
    const { value, done } = await stream.next();
    assert(!done, `the stream ended before ${name}`);
    if (names.shift() === name) return value as Frame;
  }
}
assert.equal((await next<SnapshotFrame>("snapshot")).count, 0);

const joined = await join({ client: user, path: { room }, body: { session }, throwOnError: true });
assert.equal(joined.data.created, true);
assert.equal((await next<DiffFrame>("diff")).joined[0].name, "Ann Berg");

const beats = await heartbeats({ client: user, body: { session }, throwOnError: true });
assert.equal(beats.data.sessions[0].state, "alive");

const roster = await getRoster({ client: user, path: { room }, throwOnError: true });
assert.deepEqual(roster.data.members.map(({ id }) => id), ["ann"]);

await leave({ client: user, path: { room }, body: { session }, throwOnError: true });
const { id, reason } = (await next<DiffFrame>("diff")).left[0];
assert.deepEqual([id, reason], ["ann", "left"]);
abort.abort();
console.log("TypeScript: fine");
process.exit(0);
