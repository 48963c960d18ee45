// What counts as a break of the contract, tried on the contract itself.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { breaks } from "./breaking.mjs";

// A part of it: comparing the whole takes seconds.
const PATHS = ["/v1/tickets", "/v1/rooms", "/v1/rooms/{room}/join", "/v1/users/{id}"];
const whole = JSON.parse(readFileSync(new URL("../../openapi/headcount.json", import.meta.url), "utf8"));
whole.paths = Object.fromEntries(PATHS.map((path) => [path, whole.paths[path]]));
const contract = JSON.stringify(whole);

async function after(change) {
  const document = structuredClone(whole);
  change(document, document.components.schemas);
  return breaks(contract, JSON.stringify(document));
}

const BREAKING = {
  "a call less": ({ paths }) => delete paths["/v1/tickets"],
  "a method less": ({ paths }) => delete paths["/v1/users/{id}"].delete,
  "a property of an answer less": (_, { Member }) => {
    delete Member.properties.name;
    Member.required = Member.required.filter((name) => name !== "name");
  },
  "another type in an answer": (_, { Joined }) => (Joined.properties.heartbeat_ms = { type: "string" }),
  "more to send": (_, { JoinBody }) => JoinBody.required.push("status"),
  "less that may be sent": (_, { Status }) => Status.enum.pop(),
};
const FINE = {
  "nothing": () => {},
  "other words": ({ paths }) => (paths["/v1/rooms"].get.summary = "Rooms"),
  "more in an answer": (_, { Joined }) => (Joined.properties.more = { type: "string" }),
  "more that may be sent": (_, { JoinBody }) => (JoinBody.properties.more = { type: "string" }),
  "a call more": ({ paths }) => (paths["/v1/more"] = structuredClone(paths["/v1/rooms"])),
};

for (const [name, change] of Object.entries(BREAKING)) {
  test(`${name} is a break`, async () => assert.notDeepEqual(await after(change), []));
}
for (const [name, change] of Object.entries(FINE)) {
  test(`${name} is no break`, async () => assert.deepEqual(await after(change), []));
}
