import { describe, expect, test } from "vitest";
import { backoff } from "../src/backoff.js";
import { BACKOFF_MAX_MS, BACKOFF_MS, link, WATCHDOG_MS, type LinkEffect, type LinkEvent } from "../src/link.js";
import { roster } from "../src/roster.js";
import type { Problem } from "../src/types.js";
import { diff, member, snap } from "./frames.js";

function start(...rooms: string[]) {
  const rosters = new Map(["lobby", "online"].map((room) => [room, roster(room)]));
  const machine = link(rosters);
  const line = {
    machine, rosters, now: 0, random: 0.5,
    step(...event: LinkEvent): LinkEffect[] {
      return machine.step(event, line.now, line.random);
    },
    /** Lets time pass up to the next wake-up. */
    wake(): LinkEffect[] {
      line.now = machine.wakeAt;
      return line.step("tick");
    },
    opened(): LinkEffect[] {
      return line.step("rooms", rooms.length ? rooms : ["lobby"]);
    },
  };
  return line;
}
const problem = (more: Partial<Problem>): Problem => Object.assign(new Error("no"), more);
const opens = (effects: LinkEffect[]) => effects.filter(([type]) => type === "open");

test("backoff is between nothing and twice as much each time, up to a ceiling", () => {
  for (let failures = 0; failures < 100; failures++) {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** failures);
    expect(backoff(failures, BACKOFF_MS, BACKOFF_MAX_MS, 0)).toBe(0);
    expect(backoff(failures, BACKOFF_MS, BACKOFF_MAX_MS, 1)).toBe(ceiling);
    const random = Math.random();
    expect(backoff(failures, BACKOFF_MS, BACKOFF_MAX_MS, random)).toBeCloseTo(ceiling * random);
  }
});

test("each failure waits longer, and a frame ends that", () => {
  const line = start();
  line.opened();
  line.random = 1;
  const waits: number[] = [];
  for (let attempt = 0; attempt < 6; attempt++) {
    line.step("failed");
    waits.push(line.machine.wakeAt - line.now);
    expect(opens(line.wake())).toHaveLength(1);
  }
  expect(waits).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000]);
  line.step("frame", snap("e.1", ["ann"]));
  line.step("failed");
  expect(line.machine.wakeAt - line.now).toBe(1000);
});

test("a stream is opened again with the cursors of its rooms", () => {
  const line = start("lobby", "online");
  expect(line.opened()).toContainEqual(["open", ["lobby", "online"], undefined]);
  line.step("frame", snap("e.1", ["ann"]));
  line.step("frame", snap("e.7", ["ann"], "online"));
  line.step("frame", diff("e.2", 2, { joined: [member("bob")] }));
  line.step("failed");
  expect(line.wake()).toContainEqual(["open", ["lobby", "online"], "e.2,e.7"]);
});

test("a new room opens the stream anew and resumes the others; one less does not", () => {
  const line = start();
  line.opened();
  line.step("frame", snap("e.1", ["ann"]));
  const effects = line.step("rooms", ["lobby", "online"]);
  expect(effects).toEqual([["close"], ["open", ["lobby", "online"], "e.1,0.0"]]);
  expect(opens(line.step("rooms", ["online"]))).toEqual([]);
  expect(line.step("rooms", [])).toEqual([["close"]]);
});

test("a stream that is silent for 40 s is given up and opened again", () => {
  const line = start();
  line.opened();
  for (let passed = 0; passed < 10; passed++) {
    line.now += WATCHDOG_MS - 1;
    expect(line.step("tick")).toEqual([]);
    line.step("frame", { event: "sync", cursor: "e.1", stale: false });
  }
  line.now += WATCHDOG_MS;
  expect(line.step("tick").map(([type]) => type)).toEqual(["close", "line"]);
  expect(opens(line.wake())).toHaveLength(1);
});

describe("what the service asks is obeyed", () => {
  test("bye says when to come back, and being looked at does not change that", () => {
    const line = start();
    line.opened();
    line.step("frame", { event: "bye", reason: "drain", retry_ms: 1234 });
    expect(line.machine.wakeAt).toBe(1234);
    expect(line.step("wake")).toEqual([]);
    expect(opens(line.wake())).toHaveLength(1);
  });

  test("bye for an old token asks for a new one first", () => {
    const line = start();
    line.opened();
    expect(line.step("frame", { event: "bye", reason: "token_expired", retry_ms: 50 })).toContainEqual(["renew"]);
  });

  test.each([429, 503])("Retry-After of a %d is waited for, however short the backoff", (status) => {
    const line = start();
    line.opened();
    line.random = 0;
    line.step("failed", problem({ status, retryMs: 7000 }));
    expect(line.machine.wakeAt).toBe(7000);
  });
});

test("a look at the page or the network's return ends a backoff", () => {
  const line = start();
  line.opened();
  line.step("failed");
  expect(opens(line.step("wake"))).toHaveLength(1);
});

test("a refusal for good stops the line and is told", () => {
  const line = start();
  line.opened();
  const why = problem({ status: 404, final: true });
  expect(line.step("failed", why)).toEqual([["close"], ["refused", ["lobby"], why]]);
  expect(line.machine.wakeAt).toBe(Infinity);
});

test("after a gap the stream begins with a snapshot", () => {
  const line = start();
  line.opened();
  line.step("frame", snap("e.1", ["ann"]));
  const effects = line.step("frame", diff("f.2", 2, { joined: [member("bob")] }));
  expect(effects.map(([type]) => type)).toEqual(["close", "line"]);
  expect(line.wake()).toContainEqual(["open", ["lobby"], undefined]);
});

test("the line says what it is, once", () => {
  const line = start();
  const told: unknown[] = [];
  const hear = (effects: LinkEffect[]) => told.push(...effects.flatMap(([type, what]) => (type === "line" ? [what.state] : [])));
  hear(line.opened());
  hear(line.step("frame", snap("e.1", [])));
  hear(line.step("frame", { event: "sync", cursor: "e.1", stale: false }));
  hear(line.step("frame", { event: "sync", cursor: "e.1", stale: true }));
  hear(line.step("failed"));
  expect(told).toEqual(["connecting", "live", "stale", "reconnecting"]);
});
