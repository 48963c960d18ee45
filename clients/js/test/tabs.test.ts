// Several tabs of one browser: each has a client of its own; locks and channels are shared.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { headcount, type Client, type Room } from "../src/index.js";
import { shareName } from "../src/share.js";
import { Locks, Page, problem, Service } from "./service.js";

let service: Service;
let locks: Locks;
let tabs: Tab[] = [];

/** Tabs live in one process, so each enters before it makes its client. */
class Tab {
  page = new Page().enter();
  client: Client = headcount({ token: "h.t1.s" });
  constructor() {
    tabs.push(this);
  }
  join(room = "lobby"): Room {
    this.page.enter();
    return this.client.join(room);
  }
  close(): void {
    this.page.leave();
    tabs = tabs.filter((tab) => tab !== this);
  }
}

beforeEach(() => {
  service = new Service();
  locks = new Locks();
  vi.stubGlobal("fetch", service.fetch);
  vi.stubGlobal("navigator", { locks, sendBeacon: () => true });
  channels.clear();
  vi.stubGlobal("BroadcastChannel", Channel);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
});
afterEach(() => {
  for (const tab of tabs) tab.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const channels = new Set<Channel>();
/** Delivers copies, later, to all but the sender; `deaf` ones hear and say nothing, as a frozen tab does. */
class Channel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  deaf = false;
  constructor(readonly name: string) {
    channels.add(this);
  }
  postMessage(message: unknown): void {
    if (this.deaf) return;
    for (const other of channels) {
      if (other === this || other.deaf || other.name !== this.name) continue;
      const data = structuredClone(message);
      queueMicrotask(() => other.onmessage?.({ data }));
    }
  }
  close(): void {
    channels.delete(this);
  }
}

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const ids = (room: Room) => room.members.map(({ id }) => id).sort();

test("eight tabs read one stream, and all see who is there", async () => {
  const rooms = Array.from({ length: 8 }, () => new Tab().join());
  await settle(5000);
  service.come("lobby", "ann");
  await settle();
  expect(service.streams).toHaveLength(1);
  expect(rooms.map(ids)).toEqual(rooms.map(() => ["ann", "me"]));
  expect(rooms.map(({ line }) => line.state)).toEqual(rooms.map(() => "live"));
});

test("the leader reads the rooms of all tabs", async () => {
  const lobby = new Tab().join("lobby");
  const kitchen = new Tab().join("kitchen");
  await settle(5000);
  expect(service.open().map(({ rooms }) => rooms)).toEqual([["kitchen", "lobby"]]);
  expect([lobby, kitchen].map(ids)).toEqual([["me"], ["me"]]);
});

test("a tab that comes late gets what the leader holds, without a new stream", async () => {
  new Tab().join();
  await settle(5000);
  service.come("lobby", "ann");
  const late = new Tab().join();
  await settle(100);
  expect(ids(late)).toEqual(["ann", "me"]);
  await settle(10_000);
  expect(service.streams).toHaveLength(1);
});

test("when the leader closes, another tab takes over where it was", async () => {
  const first = new Tab();
  first.join();
  const second = new Tab().join();
  const third = new Tab().join("kitchen");
  await settle(5000);
  const left = vi.fn();
  second.on("change", (change) => change.left.forEach(left));
  first.close();
  service.come("lobby", "ann");
  await settle(100);
  service.come("kitchen", "bob");
  await settle();
  expect(service.open()).toHaveLength(1);
  expect(service.open()[0].rooms).toEqual(["kitchen", "lobby"]);
  expect(service.streams.find((stream) => stream !== service.streams[0] && stream.last)!.last).toMatch(/e\.\d/);
  expect(ids(second)).toEqual(["ann", "me"]);
  expect(ids(third)).toEqual(["bob", "me"]);
  expect(left).not.toHaveBeenCalled();
});

test("while the leader reconnects, the others wait for it", async () => {
  const rooms = Array.from({ length: 4 }, () => new Tab().join());
  await settle(5000);
  service.instead = ({ path }) => (path.startsWith("/v1/events") ? problem(503, "draining") : undefined);
  service.streams[0].end();
  await settle(20_000);
  expect(rooms.map(({ line }) => line.state)).toEqual(rooms.map(() => "reconnecting"));
  expect(service.made("/v1/events").length).toBeLessThan(10);
  service.instead = () => undefined;
  await settle(10_000);
  expect(service.streams).toHaveLength(2);
  expect(rooms.map(({ line }) => line.state)).toEqual(rooms.map(() => "live"));
});

test("a leader that is frozen is done without after 45 s, until it is heard again", async () => {
  new Tab().join();
  await settle(5000);
  const [leader] = channels;
  const room = new Tab().join();
  await settle(100);
  leader.deaf = true;
  await settle(50_000);
  service.come("lobby", "ann");
  await settle();
  expect(ids(room)).toContain("ann");
  expect(service.open().length).toBe(2);
  leader.deaf = false;
  service.sync();
  await settle(100);
  expect(service.open().length).toBe(1);
});

test("a tab that missed frames catches up at the next sync", async () => {
  new Tab().join();
  const room = new Tab().join();
  await settle(5000);
  const follower = [...channels][1];
  follower.deaf = true;
  service.come("lobby", "ann");
  await settle();
  expect(ids(room)).toEqual(["me"]);
  follower.deaf = false;
  service.sync();
  await settle();
  expect(ids(room)).toEqual(["ann", "me"]);
});

test("a kick is seen in every tab", async () => {
  const rooms = [new Tab().join(), new Tab().join()];
  await settle(5000);
  const ended = vi.fn();
  rooms.forEach((room) => room.on("end", ended));
  service.kick("lobby", "me");
  await settle(30_000);
  expect(ended.mock.calls.map(([{ reason }]) => reason)).toEqual(["kicked", "kicked"]);
  expect(service.members("lobby")).toEqual([]);
});

test("rooms that do not fit the leader's stream are read by their own tab", async () => {
  const names = Array.from({ length: 20 }, (_, index) => `room${index}`);
  const one = new Tab();
  names.forEach((name) => one.join(`a${name}`));
  await settle(5000);
  const two = new Tab();
  const rooms = names.map((name) => two.join(`b${name}`));
  await settle(5000);
  expect(rooms.map(ids)).toEqual(rooms.map(() => ["me"]));
  expect(service.open().every((stream) => stream.rooms.length <= 32)).toBe(true);
});

test("without locks or channels each tab reads its own stream", async () => {
  vi.stubGlobal("navigator", { sendBeacon: () => true });
  const rooms = [new Tab().join(), new Tab().join()];
  await settle(100);
  expect(service.open()).toHaveLength(2);
  expect(rooms.map(ids)).toEqual([["me"], ["me"]]);
});

test("a put away page holds neither lock nor channel", async () => {
  const first = new Tab();
  first.join();
  const second = new Tab().join();
  await settle(5000);
  first.page.leave(true);
  await settle(100);
  expect(channels.size).toBe(1);
  service.come("lobby", "ann");
  await settle();
  expect(ids(second)).toContain("ann");
});

test("tabs share only if their tokens allow the same rooms", () => {
  const token = (claims: object) => `h.${btoa(JSON.stringify(claims)).replace(/\+/g, "-").replace(/\//g, "_")}.s`;
  const name = (claims: object) => shareName("", token(claims));
  expect(name({ sub: "ann", rooms: ["a"] })).toBe(name({ sub: "bob", rooms: ["a"] }));
  expect(name({ sub: "ann", rooms: ["a"] })).not.toBe(name({ sub: "ann", rooms: ["b"] }));
  expect(name({ sub: "ann" })).not.toBe(name({ sub: "ann", rooms: [] }));
  expect(shareName("", "opaque")).not.toBe(shareName("", "other"));
});
