// The library as a page uses it, against a service behind `fetch`.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { headcount, type Change, type Client } from "../src/index.js";
import { Page, problem, Service } from "./service.js";

let service: Service;
let page: Page;
let beacons: { url: string; body: any }[];
let clients: Client[] = [];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  service = new Service();
  vi.stubGlobal("fetch", service.fetch);
  beacons = [];
  vi.stubGlobal("navigator", {
    sendBeacon: (url: string, body: string) => beacons.push({ url, body: JSON.parse(body) }),
  });
  page = new Page().enter();
});
afterEach(async () => {
  clients.forEach((client) => client.close());
  clients = [];
  await settle(); // their last calls go to this test's service
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function connect(token: string | (() => string | Promise<string>) = "h.t1.s"): Client {
  const client = headcount({ token });
  clients.push(client);
  return client;
}
const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const ids = (change: { members: { id: string }[] }) => change.members.map(({ id }) => id).sort();

test("a joined room tells who is there, who comes and who goes", async () => {
  service.come("lobby", "ann");
  const room = connect().join("lobby", { state: { a: 1 } });
  const changes: Change[] = [];
  room.on("change", (change) => changes.push(change));
  await settle();
  service.come("lobby", "bob");
  service.kick("lobby", "ann");
  await settle();
  expect(ids(room)).toEqual(["bob", "me"]);
  expect(room.count).toBe(2);
  expect(room.line.state).toBe("live");
  const told = (kind: "joined" | "left") => changes.flatMap((change) => change[kind].map(({ id }) => id));
  expect(told("left")).toEqual(["ann"]);
  expect(told("joined")).toContain("bob");
  expect(told("joined")).not.toContain("ann");
  expect(service.made("/join")[0].body.state).toEqual({ a: 1 });
});

test("a room can be watched without being in it", async () => {
  service.come("lobby", "ann");
  const room = connect().watch("lobby");
  await settle();
  expect(ids(room)).toEqual(["ann"]);
  expect(service.made("/join")).toEqual([]);
});

test("a room can be joined without being watched", async () => {
  connect().join("online", { watch: false });
  await settle();
  expect(service.members("online")).toEqual(["me"]);
  expect(service.streams).toEqual([]);
});

test("many rooms are one stream", async () => {
  const client = connect();
  client.join("lobby");
  client.join("online");
  await settle();
  expect(service.open().map(({ rooms }) => rooms)).toEqual([["lobby", "online"]]);
  client.watch("kitchen");
  await settle();
  expect(service.open().map(({ rooms }) => rooms)).toEqual([["kitchen", "lobby", "online"]]);
  expect(service.streams.at(-1)!.last).toMatch(/^0\.0,e\.\d,e\.\d$/);
});

test("a listener that comes late is told what is known", async () => {
  const room = connect().join("lobby");
  await settle();
  const told = vi.fn();
  room.on("change", told);
  await settle();
  expect(told).toHaveBeenCalledOnce();
  expect(told.mock.calls[0][0]).toMatchObject({ count: 1, joined: [], left: [] });
});

test("the fault of one listener keeps neither others from hearing nor the stream from going on", async () => {
  const thrown: unknown[] = [];
  const queue = queueMicrotask;
  vi.stubGlobal("queueMicrotask", (work: () => void) => queue(() => {
    try {
      work();
    } catch (fault) {
      thrown.push(fault);
    }
  }));
  const room = connect().join("lobby");
  room.on("change", () => {
    throw new Error("fault");
  });
  const told = vi.fn();
  room.on("change", told);
  await settle();
  service.come("lobby", "ann");
  await settle();
  expect(thrown.length).toBeGreaterThan(1);
  expect(told.mock.calls.length).toBe(thrown.length);
  expect(service.streams).toHaveLength(1);
});

test("seq only ever increases", async () => {
  const room = connect().join("lobby");
  for (let count = 0; count < 3; count++) {
    room.update({ count });
    await settle(20_000);
  }
  page.leave();
  const seqs = [...service.calls, ...beacons].flatMap(({ body }) => body?.seq ?? []);
  expect(seqs.length).toBeGreaterThan(6);
  expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
  expect(new Set(seqs).size).toBe(seqs.length);
});

describe("trouble", () => {
  test("a refused token is asked for again once, and the call is made with the new one", async () => {
    const token = vi.fn(() => service.token);
    const room = connect(token).join("lobby");
    await settle();
    service.token = "h.t2.s";
    room.update({ a: 1 });
    await settle();
    expect(token).toHaveBeenCalledTimes(2);
    const [first, second] = service.made("/presence").map(({ headers }) => headers.Authorization);
    expect([first, second]).toEqual(["Bearer h.t1.s", "Bearer h.t2.s"]);
  });

  test.each([["refused", "h.bad.s"], ["empty", ""]])("a token that stays %s costs at most 4 requests for one in 30 s, and is told once", async (_, bad) => {
    const token = vi.fn(() => bad);
    const room = connect(token).join("lobby");
    const failed = vi.fn();
    room.on("error", failed);
    await settle(30_000);
    expect(token.mock.calls.length).toBeLessThanOrEqual(4);
    expect(token.mock.calls.length).toBeGreaterThan(2);
    expect(failed).toHaveBeenCalledOnce();
    expect(room.line).toMatchObject({ state: "unauthorized", problem: { status: 401 } });
  });

  test("a token function that answers a page is asked again within seconds, and told of", async () => {
    const token = vi.fn(() => (token.mock.calls.length > 1 ? "h.t1.s" : "<html>502 Bad Gateway</html>"));
    const room = connect(token).join("lobby");
    const failed = vi.fn();
    room.on("error", failed);
    await settle(5000);
    expect(failed.mock.calls).toMatchObject([[{ code: "bad_token" }]]);
    expect(ids(room)).toEqual(["me"]);
    expect(room.line.state).toBe("live");
  });

  test("a room gained later is tried with a fresh token before it is refused", async () => {
    const token = vi.fn(() => service.token);
    const client = connect(token);
    client.join("lobby");
    await settle(5000);
    service.token = "h.t2.s";
    service.instead = ({ headers, path, body }) =>
      headers.Authorization === "Bearer h.t1.s" && (path.includes("gained") || body?.rooms?.includes("gained"))
        ? problem(404, "room_not_found") : undefined;
    const gained = client.join("gained");
    const ended = vi.fn();
    gained.on("end", ended);
    await settle(5000);
    expect(ended).not.toHaveBeenCalled();
    expect(ids(gained)).toEqual(["me"]);
    expect(token).toHaveBeenCalledTimes(2);
  });

  test("a token is renewed before it runs out, whatever the clock of the page", async () => {
    const part = btoa(JSON.stringify({ iat: 1000, exp: 1100 })).replace(/=/g, "");
    const token = vi.fn(() => (service.token = `h.${part}.s${token.mock.calls.length}`));
    connect(token).join("lobby", { watch: false });
    await settle(80_000);
    expect(token).toHaveBeenCalledTimes(1);
    await settle(30_000);
    expect(token).toHaveBeenCalledTimes(2);
    expect(service.calls.every(({ headers }) => headers.Authorization)).toBe(true);
  });

  test("a refresh asks for a token now, however long the wait was to be", async () => {
    let now = "";
    const client = connect(() => now);
    const room = client.join("lobby");
    await settle(3000);
    expect(room.line.state).toBe("unauthorized");
    now = "h.t1.s";
    client.refresh();
    await settle(100);
    expect(room.line.state).toBe("live");
    expect(ids(room)).toEqual(["me"]);
  });

  test("a fixed token that is refused ends the room", async () => {
    const room = connect("bad").join("lobby", { watch: false });
    const ended = vi.fn();
    room.on("end", ended);
    await settle(60_000);
    expect(ended.mock.calls).toMatchObject([[{ reason: "refused", problem: { status: 401 } }]]);
    expect(service.calls).toHaveLength(1);
  });

  test("a token that cannot be had at first is had later", async () => {
    let down = true;
    const room = connect(async () => {
      if (down) throw new Error("down");
      return "h.t1.s";
    }).join("lobby");
    await settle(10_000);
    expect(room.line.state).toBe("reconnecting");
    down = false;
    await settle(20_000);
    expect(ids(room)).toEqual(["me"]);
  });

  test.each([
    ["502 in HTML", () => new Response("<html>Bad Gateway</html>", { status: 502, headers: { "Content-Type": "text/html" } })],
    ["200 in HTML", () => new Response("<html>Sign in</html>", { headers: { "Content-Type": "text/html" } })],
    ["429", () => problem(429, "too_many", { "Retry-After": "2" })],
    ["503", () => problem(503, "unavailable", { "Retry-After": "1" })],
  ])("a proxy or service that answers %s is outlived", async (_, answer) => {
    service.instead = answer;
    const room = connect().join("lobby");
    const failed = vi.fn();
    room.on("error", failed);
    await settle(10_000);
    expect(room.line.state).not.toBe("live");
    const tries = service.calls.length;
    expect(tries).toBeGreaterThan(4);
    expect(tries).toBeLessThan(40);
    service.instead = () => undefined;
    await settle(30_000);
    expect(ids(room)).toEqual(["me"]);
    expect(room.line.state).toBe("live");
    expect(failed).not.toHaveBeenCalled();
  });

  test("a stream that breaks is resumed where it was, and nothing is missed", async () => {
    const room = connect().join("lobby");
    await settle();
    const left = vi.fn();
    room.on("change", (change) => change.left.forEach(({ id }) => left(id)));
    service.streams[0].end();
    service.come("lobby", "ann");
    service.come("lobby", "bob");
    service.kick("lobby", "ann");
    await settle(2000);
    expect(service.streams[1].last).toBe("e.1");
    expect(ids(room)).toEqual(["bob", "me"]);
    expect(left.mock.calls).toEqual([["ann"]]);
  });

  test("bye is obeyed: back after its time, at once with a new token", async () => {
    const token = vi.fn(() => "h.t1.s");
    connect(token).join("lobby");
    await settle();
    service.streams[0].send({ event: "bye", reason: "token_expired", retry_ms: 700 });
    await settle(699);
    expect(service.streams).toHaveLength(1);
    await settle(1);
    expect(service.streams).toHaveLength(2);
    expect(token).toHaveBeenCalledTimes(2);
  });

  test("a stream that says nothing for 40 s is opened again", async () => {
    connect().join("lobby");
    await settle();
    await settle(39_900);
    expect(service.streams).toHaveLength(1);
    await settle(3000);
    expect(service.streams).toHaveLength(2);
    expect(service.open()).toHaveLength(1);
  });

  test("of many rooms only the one that is refused is given up", async () => {
    service.instead = ({ path, body }) =>
      path.includes("secret") || body?.rooms?.includes("secret") ? problem(404, "room_not_found") : undefined;
    const client = connect();
    const lobby = client.watch("lobby");
    const secret = client.watch("secret");
    const [ended, failed] = [vi.fn(), vi.fn()];
    secret.on("end", ended);
    secret.on("error", failed);
    await settle(100);
    expect(ended.mock.calls).toMatchObject([[{ reason: "refused", problem: { code: "room_not_found" } }]]);
    expect(failed).toHaveBeenCalledOnce();
    expect(service.open().map(({ rooms }) => rooms)).toEqual([["lobby"]]);
    expect(lobby.line.state).toBe("live");
  });

  test("a token source that hangs holds nothing up for ever", async () => {
    const token = vi.fn(() => (token.mock.calls.length > 1 ? "h.t1.s" : new Promise<string>(() => {})));
    const room = connect(token).join("lobby");
    await settle(30_000);
    expect(ids(room)).toEqual(["me"]);
  });
});

describe("presence", () => {
  test("heartbeats go on when the clock is put back", async () => {
    connect().join("lobby", { watch: false });
    await settle(1000);
    vi.setSystemTime(Date.now() - 3_600_000);
    await settle(46_000);
    expect(service.made("/heartbeats")).toHaveLength(3);
  });

  test("gone is joined again", async () => {
    const room = connect().join("lobby");
    await settle();
    service.room("lobby").sessions.clear();
    await settle(15_000);
    expect(service.made("/join")).toHaveLength(2);
    expect(service.members("lobby")).toEqual(["me"]);
    expect(ids(room)).toEqual(["me"]);
  });

  test("kicked is the end, and says so", async () => {
    const room = connect().join("lobby");
    const ended = vi.fn();
    room.on("end", ended);
    await settle();
    service.kick("lobby", "me");
    await settle(60_000);
    expect(ended.mock.calls).toEqual([[{ reason: "kicked", problem: undefined }]]);
    expect(service.made("/join")).toHaveLength(1);
    expect(service.open()).toEqual([]);
  });

  test("a hidden tab says so at once, and again when it is shown", async () => {
    connect().join("lobby");
    await settle();
    page.show(false);
    await settle();
    page.show(true);
    await settle();
    expect(service.made("/heartbeats").map(({ body }) => body.visible)).toEqual([false, true]);
  });

  test("a page that goes leaves with grace by beacon, with the token inside", async () => {
    connect().join("lobby");
    await settle();
    page.leave();
    expect(beacons).toMatchObject([{ url: "/v1/rooms/lobby/leave", body: { grace: true, token: "h.t1.s" } }]);
    expect(service.open()).toEqual([]);
  });

  test("where there are no beacons, fetch outlives the page", async () => {
    vi.stubGlobal("navigator", {});
    connect().join("lobby");
    await settle();
    page.leave();
    expect(service.made("/leave")).toMatchObject([{ keepalive: true, headers: { "Content-Type": "text/plain" } }]);
  });

  test("a page that comes back out of the cache joins and listens again", async () => {
    const room = connect().join("lobby");
    await settle();
    page.leave(true);
    service.come("lobby", "ann");
    await settle(600_000);
    expect(service.made("/heartbeats")).toEqual([]);
    page.back();
    await settle();
    expect(service.made("/join")).toHaveLength(2);
    expect(ids(room)).toEqual(["ann", "me"]);
  });

  test("an answer that comes after the page went and came back is void", async () => {
    let answer!: (response: Response) => void;
    connect().join("lobby", { watch: false });
    await settle();
    const { fetch } = service;
    vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => (answer = resolve)));
    await settle(15_000);
    page.leave(true);
    vi.stubGlobal("fetch", fetch);
    page.back();
    answer(Response.json({ sessions: [{ state: "gone" }], heartbeat_ms: 1, lease_ms: 1 }));
    await settle(1000);
    expect(service.made("/join")).toHaveLength(2);
    expect(service.made("/heartbeats")).toEqual([]);
  });

  test("leave is at once", async () => {
    const room = connect().join("lobby");
    await settle();
    room.leave();
    await settle();
    expect(service.made("/leave")).toMatchObject([{ body: { seq: 2 } }]);
    expect(service.members("lobby")).toEqual([]);
    expect(service.open()).toEqual([]);
  });

  test("a component that is mounted anew emits nothing", async () => {
    const client = connect();
    client.join("lobby").leave();
    const room = client.join("lobby");
    await settle();
    room.leave();
    client.join("lobby");
    await settle();
    expect(service.made("/leave")).toEqual([]);
    expect(service.room("lobby").log).toHaveLength(1);
  });

  test("two users of a room in one page are one stay, until both leave", async () => {
    const client = connect();
    const [one, two] = [client.join("lobby"), client.join("lobby")];
    await settle();
    one.leave();
    await settle();
    expect(service.members("lobby")).toEqual(["me"]);
    two.leave();
    await settle();
    expect(service.members("lobby")).toEqual([]);
  });
});

describe("the session", () => {
  const session = () => service.made("/join").at(-1)!.body;

  test("is kept over a reload, and its seq goes on", async () => {
    connect().join("lobby");
    await settle();
    const before = session();
    page.leave();
    const reloaded = new Page();
    reloaded.storage = page.storage;
    reloaded.enter();
    connect().join("lobby");
    await settle();
    expect(session().session).toBe(before.session);
    expect(session().seq).toBeGreaterThan(beacons[0].body.seq);
  });

  test("is not shared by a duplicated tab, nor by a copy of that", async () => {
    connect().join("lobby");
    page.leave();
    const reloaded = new Page();
    reloaded.storage = page.storage;
    page = reloaded.enter();
    connect().join("lobby");
    await settle();
    const sessions = new Set([session().session]);
    for (let copies = 0; copies < 3; copies++) {
      const copy = new Page();
      copy.storage = page.storage.copy();
      page = copy.enter();
      connect().join("lobby");
      await settle();
      sessions.add(session().session);
    }
    expect(sessions.size).toBe(4);
  });

  test("is a UUID even where crypto.randomUUID is missing, and works without storage", async () => {
    vi.stubGlobal("sessionStorage", undefined);
    connect().join("lobby");
    await settle();
    expect(session().session).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    page.leave();
  });
});

test("where fetch cannot stream, a ticket and EventSource do", async () => {
  vi.stubGlobal("Response", class {});
  const sources: (EventTarget & { url: string; closed?: boolean; onerror?: () => void })[] = [];
  vi.stubGlobal("EventSource", class extends EventTarget {
    constructor(readonly url: string) {
      super();
      sources.push(this);
    }
    close() {
      Object.assign(this, { closed: true });
    }
  });
  const room = connect().watch("lobby");
  await settle();
  expect(sources[0].url).toBe("/v1/events?rooms=lobby&ticket=hct_1");
  const data = JSON.stringify({ room: "lobby", cursor: "e.1", count: 0, members: [] });
  sources[0].dispatchEvent(Object.assign(new Event("snapshot"), { data }));
  expect(room.line.state).toBe("live");
  sources[0].onerror!();
  await settle(2000);
  expect(sources[0].closed).toBe(true);
  expect(sources[1].url).toBe("/v1/events?rooms=lobby&ticket=hct_1&last_event_id=e.1");
});
