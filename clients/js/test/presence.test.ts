import { expect, test } from "vitest";
import { presence, type Answer, type Call, type PresenceEffect, type PresenceEvent } from "../src/presence.js";
import type { Problem } from "../src/types.js";

const VISIBLE = { heartbeat_ms: 15_000, lease_ms: 45_000 };
const HIDDEN = { heartbeat_ms: 60_000, lease_ms: 150_000 };

/** A session against a service of a few lines, on simulated time. */
function start() {
  const machine = presence();
  const world = {
    machine, now: 0, random: 0.5,
    log: [] as PresenceEffect[],
    calls: [] as (Call & { at: number })[],
    /** What the service holds. */
    rooms: new Set<string>(),
    expires: Infinity,
    expired: 0,
    kicked: undefined as string[] | undefined,
    version: 0,
    /** Calls wait here instead of being answered. */
    held: undefined as Call[] | undefined,
    fault: undefined as Problem | undefined,

    step(...event: PresenceEvent): void {
      const effects = machine.step(event, world.now, world.random);
      world.log.push(...effects);
      for (const [type, what] of effects) {
        if (type !== "call") continue;
        world.calls.push({ ...what, at: world.now });
        if (world.held) world.held.push(what);
        else world.answer(what);
      }
    },
    answer(call: Call): void {
      if (world.fault) return world.step("failed", world.fault);
      world.step("answer", world.serve(call));
    },
    serve({ verb, room, body }: Call): Answer {
      const pace = body.visible === false ? HIDDEN : VISIBLE;
      if (verb === "leave") world.rooms.delete(room);
      if (verb === "join") world.rooms.add(room);
      const gone = verb === "beat" && !world.rooms.size;
      if ((verb === "beat" && !gone) || verb === "join") world.expires = world.now + pace.lease_ms;
      const cursor = `e.${++world.version}`;
      const sessions = [{ state: gone ? ("gone" as const) : ("alive" as const), kicked: world.kicked }];
      return verb === "update" || verb === "leave" ? { cursor } : { ...pace, cursor, member: { id: "ann" }, sessions };
    },
    /** Lets time pass; a timer that is due fires at the next multiple of `grain`, as in a hidden tab. */
    pass(ms: number, grain = 1): void {
      const end = world.now + ms;
      for (;;) {
        const due = Math.max(world.now, Math.ceil(machine.wakeAt / grain) * grain);
        if (!(due <= end)) break;
        if (due > world.expires) world.expire();
        world.now = due;
        world.step("tick");
      }
      world.now = end;
      if (end > world.expires) world.expire();
    },
    expire(): void {
      world.expired++;
      world.rooms.clear();
      world.expires = Infinity;
    },
    verbs: () => world.calls.map(({ verb }) => verb),
  };
  return world;
}
const problem = (more: Partial<Problem>): Problem => Object.assign(new Error("no"), more);
const down = problem({ status: 503 });

test("heartbeats keep the service's pace", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.pass(60_000);
  expect(world.calls.map(({ verb, at }) => [verb, at])).toEqual([
    ["join", 0], ["beat", 15_000], ["beat", 30_000], ["beat", 45_000], ["beat", 60_000],
  ]);
});

test("one heartbeat is for all rooms", () => {
  const world = start();
  for (const room of ["lobby", "online", "team:1"]) world.step("want", room, {});
  world.pass(15_000);
  expect(world.verbs()).toEqual(["join", "join", "join", "beat"]);
});

test("a hidden tab whose timers fire once a minute stays for 5 minutes", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.pass(20_000);
  world.step("visible", false);
  expect(world.calls.at(-1)).toMatchObject({ verb: "beat", at: 20_000, body: { visible: false } });
  world.pass(300_000, 60_000);
  expect(world.expired).toBe(0);
  expect(world.verbs().filter((verb) => verb === "join")).toHaveLength(1);
  expect(world.verbs().length).toBeLessThan(10);
});

test("a tab that is shown says so at once", () => {
  const world = start();
  world.step("visible", false);
  world.step("want", "lobby", {});
  world.pass(10_000);
  world.step("visible", true);
  expect(world.calls.at(-1)).toMatchObject({ verb: "beat", at: 10_000, body: { visible: true } });
});

test("being hidden while a call is out is told when it is answered", () => {
  const world = start();
  world.held = [];
  world.step("want", "lobby", {});
  world.step("visible", false);
  const [join] = world.held;
  world.held = undefined;
  world.answer(join);
  expect(world.calls.at(-1)).toMatchObject({ verb: "beat", body: { visible: false } });
});

test("input is reported with the next heartbeat, and at once if others see the user idle", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("active", false);
  expect(world.verbs()).toEqual(["join"]);
  world.pass(15_000);
  expect(world.calls.at(-1)!.body.active).toBe(true);
  world.pass(15_000);
  expect(world.calls.at(-1)!.body.active).toBe(false);
  world.step("active", true);
  expect(world.calls.at(-1)).toMatchObject({ verb: "beat", at: 30_000, body: { active: true } });
});

test("input is not forgotten by a heartbeat that fails", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("active", false);
  world.fault = down;
  world.pass(15_000);
  world.fault = undefined;
  world.pass(2000);
  expect(world.calls.at(-1)).toMatchObject({ verb: "beat", body: { active: true } });
});

test("a session that is gone joins all its rooms again", () => {
  const world = start();
  world.step("want", "lobby", { state: { a: 1 } });
  world.step("want", "online", {});
  world.expire();
  world.pass(15_000);
  expect(world.verbs()).toEqual(["join", "join", "beat", "join", "join"]);
  expect(world.calls[3].body.state).toEqual({ a: 1 });
});

test("who was kicked does not come back by itself", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("absent", "lobby", "e.2", true);
  expect(world.log).toContainEqual(["ended", "lobby", "kicked", undefined]);
  world.pass(60_000);
  expect(world.verbs()).toEqual(["join"]);
});

test("who hears of a kick by a heartbeat does not come back there, but elsewhere", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("want", "online", {});
  world.expire();
  world.kicked = ["lobby"];
  world.pass(15_000);
  expect(world.log).toContainEqual(["ended", "lobby", "kicked", undefined]);
  expect(world.calls.slice(2).map(({ verb, room }) => [verb, room])).toEqual([["beat", ""], ["join", "online"]]);
});

test("who is missing without having been kicked joins again", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("absent", "lobby", "e.2", false);
  expect(world.verbs()).toEqual(["join", "join"]);
});

test("who is invisible is not missing, and comes back invisible", () => {
  const world = start();
  world.step("want", "lobby", { invisible: true });
  world.step("absent", "lobby", "e.2", false);
  expect(world.verbs()).toEqual(["join"]);
  expect(world.calls[0].body).toMatchObject({ invisible: true });
  world.step("want", "lobby", { invisible: false });
  expect(world.calls[1]).toMatchObject({ verb: "update", body: { invisible: false } });
  world.step("absent", "lobby", "e.9", false);
  expect(world.verbs()).toEqual(["join", "update", "join"]);
});

test("news from before the join does not count", () => {
  const world = start();
  world.version = 7;
  world.step("want", "lobby", {});
  world.step("absent", "lobby", "e.7", true);
  expect(world.log.map(([type]) => type)).not.toContain("ended");
  expect(world.verbs()).toEqual(["join"]);
});

test("calls go one after the other, and changes meanwhile are sent as one", () => {
  const world = start();
  world.held = [];
  world.step("want", "lobby", {});
  for (const typing of [true, false, true]) world.step("want", "lobby", { state: { typing } });
  world.step("want", "lobby", { status: "dnd" });
  expect(world.verbs()).toEqual(["join"]);
  const [join] = world.held;
  world.held = undefined;
  world.answer(join);
  expect(world.calls.slice(1)).toMatchObject([{ verb: "update", body: { state: { typing: true }, status: "dnd" } }]);
});

test("what is shown already is not sent again", () => {
  const world = start();
  world.step("want", "lobby", { state: { a: 1 } });
  world.step("want", "lobby", { state: { a: 1 } });
  expect(world.verbs()).toEqual(["join"]);
});

test("a leave and a join while the first join is out are nothing", () => {
  const world = start();
  world.held = [];
  world.step("want", "lobby", {});
  world.step("unwant", "lobby");
  world.step("want", "lobby", {});
  const [join] = world.held;
  world.held = undefined;
  world.answer(join);
  expect(world.verbs()).toEqual(["join"]);
});

test("a join without an answer may have been done, so it is left too", () => {
  const world = start();
  world.fault = down;
  world.step("want", "lobby", {});
  world.step("unwant", "lobby");
  world.fault = undefined;
  world.pass(2000);
  expect(world.verbs()).toEqual(["join", "leave"]);
  expect(world.log).toContainEqual(["ended", "lobby", "left", undefined]);
});

test("an outage is retried within the lease, at Retry-After or later", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.random = 1;
  world.fault = problem({ status: 503, retryMs: 3000 });
  world.pass(30_000);
  const tries = world.calls.slice(1).map(({ at }) => at);
  expect(tries.slice(1).every((at, index) => at - tries[index] >= 3000 && at - tries[index] <= 10_000)).toBe(true);
  world.fault = undefined;
  world.pass(10_000);
  expect(world.expired).toBe(0);
  expect(world.verbs().at(-1)).toBe("beat");
});

test("a refused join ends the stay; a refused update does not, and is not repeated", () => {
  const world = start();
  const refused = problem({ status: 404, final: true, code: "room_not_found" });
  world.fault = refused;
  world.step("want", "secret", {});
  expect(world.log).toContainEqual(["ended", "secret", "refused", refused]);
  world.fault = undefined;
  world.step("want", "lobby", {});
  const large = (world.fault = problem({ status: 413, final: true, code: "state_too_large" }));
  world.step("want", "lobby", { state: "x" });
  world.fault = undefined;
  expect(world.log).toContainEqual(["error", "lobby", large]);
  world.pass(15_000);
  expect(world.verbs()).toEqual(["join", "join", "update", "beat"]);
  world.expire();
  world.pass(15_000);
  const call = world.calls.at(-1);
  expect(call).toMatchObject({ verb: "join", room: "lobby" });
  expect(call?.body.state).toBeUndefined();
});

test("a session of another user is given up for a new one, once", () => {
  const world = start();
  world.fault = problem({ status: 404, final: true, code: "session_not_found" });
  world.step("want", "lobby", {});
  expect(world.log.map(([type]) => type)).toEqual(["call", "renew", "call", "ended"]);
});

test("a page that goes leaves with grace, and joins again when it comes back", () => {
  const world = start();
  world.step("want", "lobby", { status: "dnd" });
  world.step("want", "online", {});
  world.step("suspend");
  expect(world.log.slice(-2)).toEqual([["farewell", "lobby"], ["farewell", "online"]]);
  world.pass(600_000);
  expect(world.verbs()).toEqual(["join", "join"]);
  world.step("resume");
  expect(world.verbs()).toEqual(["join", "join", "join", "join"]);
  expect(world.calls[2].body.status).toBe("dnd");
});

test("nothing is sent when no room is left", () => {
  const world = start();
  world.step("want", "lobby", {});
  world.step("unwant", "lobby");
  world.pass(600_000);
  expect(world.verbs()).toEqual(["join", "leave"]);
});
