import { expect, test } from "vitest";
import { advance, fold, lastEventId, roster, snapshot } from "../src/roster.js";
import type { Change, Frame } from "../src/types.js";
import { diff, member, snap } from "./frames.js";

function lobby(...frames: Frame[]) {
  const held = roster("lobby");
  const answers = frames.map((frame) => fold(held, frame));
  return { held, answers, ids: [...held.members.keys()] };
}

test("a snapshot and the diffs after it give the members", () => {
  const { ids, held } = lobby(
    snap("e.1", ["ann", "bob"]),
    diff("e.2", 3, { joined: [member("eve")] }),
    diff("e.5", 2, { left: [{ id: "bob", reason: "left" }], updated: [member("ann", { status: "idle" })] }),
  );
  expect(ids).toEqual(["ann", "eve"]);
  expect(held.members.get("ann")!.status).toBe("idle");
  expect(held.cursor).toBe("e.5");
});

test("an older or repeated version is ignored", () => {
  const { ids, answers } = lobby(
    snap("e.4", ["ann"]),
    diff("e.4", 0, { left: [{ id: "ann", reason: "left" }] }),
    diff("e.3", 2, { joined: [member("bob")] }),
    snap("e.2", []),
  );
  expect(answers.slice(1)).toEqual(["old", "old", "old"]);
  expect(ids).toEqual(["ann"]);
});

test("another epoch is taken from a snapshot only", () => {
  const { answers, ids, held } = lobby(snap("e.9", ["ann"]), diff("f.2", 2, { joined: [member("bob")] }), snap("f.3", ["eve"]));
  expect(answers[1]).toBe("gap");
  expect(ids).toEqual(["eve"]);
  expect(held.cursor).toBe("f.3");
});

test("a count that does not fit is a gap, and what is held is no place to resume from", () => {
  const { answers, held } = lobby(snap("e.1", ["ann"]), diff("e.3", 3, { joined: [member("bob")] }));
  expect(answers[1]).toBe("gap");
  expect(held.cursor).toBeUndefined();
});

test("a room of over 1000 is listed in part and counted in full", () => {
  const { answers, held } = lobby({ ...snap("e.1", ["ann"]), count: 1500 }, diff("e.2", 1501, { joined: [member("zoe")] }));
  expect((answers[1] as Change).count).toBe(1501);
  expect(held.complete).toBe(false);
});

test("nobody joined with the first snapshot; a later one tells what changed meanwhile", () => {
  const { answers } = lobby(snap("e.1", ["ann", "bob"]), snap("f.1", ["bob", "eve"]));
  expect((answers[0] as Change).joined).toEqual([]);
  const { joined, left, updated } = answers[1] as Change;
  expect([joined, left, updated].map((some) => some.map(({ id }) => id))).toEqual([["eve"], ["ann"], []]);
});

test("who left is told with their name", () => {
  const { answers } = lobby(snap("e.1", ["ann"]), diff("e.2", 0, { left: [{ id: "ann", reason: "kicked" }] }));
  expect((answers[1] as Change).left[0]).toMatchObject({ id: "ann", name: "ANN", reason: "kicked" });
});

test("a stream of rooms resumes each where it is, and begins those it does not know", () => {
  const rosters = new Map([["a", lobby(snap("e.1", [])).held]]);
  expect(lastEventId(["a", "b"], rosters)).toBe("e.1,0.0");
  expect(lastEventId(["b"], rosters)).toBeUndefined();
});

test("a sync moves forward over versions that cancelled out, never back, never to another epoch", () => {
  const rosters = new Map([["a", lobby(snap("e.5", [])).held]]);
  for (const [cursor, after] of [["e.4", "e.5"], ["f.9", "e.5"], ["e.7", "e.7"]]) {
    advance(["a"], rosters, cursor);
    expect(rosters.get("a")!.cursor).toBe(after);
  }
});

test("what is held, sent as a snapshot, brings another tab there", () => {
  const { held } = lobby(snap("e.1", ["ann"]), diff("e.2", 2, { joined: [member("bob")] }));
  expect(lobby(snapshot(held)).held).toEqual(held);
});
