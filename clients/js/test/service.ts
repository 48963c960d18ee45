// A service of a few lines behind `fetch`, and the parts of a browser that Node lacks.

import { vi } from "vitest";
import type { Frame } from "../src/types.js";
import { member } from "./frames.js";

const { Response } = globalThis; // a test takes it away from the library

export interface Call {
  method: string;
  path: string;
  body: any;
  headers: Record<string, string>;
  keepalive?: boolean;
}

interface Stream {
  rooms: string[];
  last?: string;
  send(frame: Frame): void;
  raw(text: string): void;
  end(): void;
  open: boolean;
}

export class Service {
  calls: Call[] = [];
  streams: Stream[] = [];
  token = "h.t1.s";
  rooms = new Map<string, { version: number; log: Frame[]; sessions: Map<string, string> }>();
  /** Answers instead of the service while it gives something. */
  instead: (call: Call) => Response | undefined = () => undefined;

  room(name: string) {
    if (!this.rooms.has(name)) this.rooms.set(name, { version: 0, log: [], sessions: new Map() });
    return this.rooms.get(name)!;
  }
  members(name: string): string[] {
    return [...new Set(this.room(name).sessions.values())];
  }
  /** Lets another user in or out. */
  come(name: string, user: string): void {
    this.room(name).sessions.set(user, user);
    this.emit(name, { joined: [member(user)] });
  }
  emit(name: string, part: Partial<Frame>): void {
    const room = this.room(name);
    const cursor = `e.${++room.version}`;
    const frame: Frame = {
      event: "diff", room: name, cursor, count: this.members(name).length, joined: [], updated: [], left: [], ...part,
    };
    room.log.push(frame);
    for (const stream of this.open(name)) stream.send(frame);
  }
  kick(name: string, user: string): void {
    const { sessions } = this.room(name);
    for (const [session, whose] of sessions) if (whose === user) sessions.delete(session);
    this.emit(name, { left: [{ id: user, reason: "kicked" }] });
  }
  sync(stale = false): void {
    for (const stream of this.open()) stream.send({ event: "sync", cursor: this.cursors(stream.rooms), stale });
  }
  cursors(rooms: string[]): string {
    return rooms.map((room) => `e.${this.room(room).version}`).join(",");
  }
  open(room?: string): Stream[] {
    return this.streams.filter((stream) => stream.open && (!room || stream.rooms.includes(room)));
  }
  made(verb: string): Call[] {
    return this.calls.filter(({ path }) => path.split("?")[0].endsWith(verb));
  }

  fetch = async (url: string, init: RequestInit = {}): Promise<Response> => {
    const headers = init.headers as Record<string, string>;
    const body = init.body ? JSON.parse(String(init.body)) : undefined;
    const call = { method: init.method ?? "GET", path: url, body, headers, keepalive: init.keepalive };
    this.calls.push(call);
    init.signal?.throwIfAborted();
    const other = this.instead(call);
    if (other) return other;
    if (headers.Authorization !== `Bearer ${this.token}` && body?.token !== this.token) return problem(401, "expired_token");
    if (url.startsWith("/v1/events")) return this.stream(url, headers, init.signal!);
    if (url === "/v1/tickets") return Response.json({ ticket: "hct_1" });
    return Response.json(this.command(url, call));
  };

  private command(url: string, { body }: Call): unknown {
    const pace = { heartbeat_ms: 15_000, lease_ms: 45_000 };
    if (url === "/v1/heartbeats") {
      const alive = [...this.rooms.values()].some(({ sessions }) => sessions.has(body.session));
      return { sessions: [{ session: body.session, state: alive ? "alive" : "gone" }], ...pace };
    }
    const [, name, verb] = /^\/v1\/rooms\/(.+)\/(\w+)$/.exec(url)!;
    const room = this.room(name);
    const there = this.members(name).includes("me");
    if (verb === "join") {
      room.sessions.set(body.session, "me");
      if (!there) this.emit(name, { joined: [member("me", { state: body.state ?? {} })] });
    } else if (verb === "presence") {
      this.emit(name, { updated: [member("me", { state: body.state ?? {} })] });
    } else if (!body.grace) {
      room.sessions.delete(body.session);
      if (there && !this.members(name).includes("me")) this.emit(name, { left: [{ id: "me", reason: "left" }] });
    }
    return { cursor: `e.${room.version}`, member: member("me"), ...pace };
  }

  private stream(url: string, headers: Record<string, string>, signal: AbortSignal): Response {
    const rooms = new URL(url, "http://x").searchParams.get("rooms")!.split(",");
    const last = headers["Last-Event-ID"];
    const encoder = new TextEncoder();
    let control!: ReadableStreamDefaultController;
    const body = new ReadableStream({ start: (it) => void (control = it) });
    const stream: Stream = {
      rooms, last, open: true,
      raw: (text) => control.enqueue(encoder.encode(text)),
      send: ({ event, ...data }) => stream.raw(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`),
      end() {
        if (stream.open) control.close();
        stream.open = false;
      },
    };
    signal.addEventListener("abort", () => {
      if (stream.open) control.error(signal.reason);
      stream.open = false;
    });
    this.streams.push(stream);
    rooms.forEach((name, index) => {
      const room = this.room(name);
      const [epoch, version] = (last?.split(",")[index] ?? "").split(".");
      const missed = room.log.filter(({ cursor }) => Number(cursor!.split(".")[1]) > Number(version));
      if (epoch === "e") missed.forEach((frame) => stream.send(frame));
      else {
        const members = this.members(name).map((id) => member(id));
        stream.send({ event: "snapshot", room: name, cursor: `e.${room.version}`, count: members.length, members });
      }
    });
    stream.send({ event: "sync", cursor: this.cursors(rooms), stale: false });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }
}

export function problem(status: number, code: string, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify({ status, code, title: code }), { status, headers });
}

/** Web Locks: one holder, the others wait in line. */
export class Locks {
  private held = new Map<string, Promise<unknown>>();
  async request(name: string, { signal }: { signal: AbortSignal }, work: () => unknown): Promise<void> {
    const before = this.held.get(name) ?? Promise.resolve();
    const turn = before.then(() => (signal.aborted ? undefined : work()));
    this.held.set(name, turn);
    await turn;
  }
}

/** sessionStorage of one tab; a duplicated tab has a copy. */
export class Storage {
  constructor(readonly items = new Map<string, string>()) {}
  getItem = (key: string) => this.items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.items.set(key, value);
  removeItem = (key: string) => void this.items.delete(key);
  copy = () => new Storage(new Map(this.items));
}

/** A page that can be hidden, put away and brought back. Listeners are on one target, as far as the library can tell. */
export class Page extends EventTarget {
  hidden = false;
  beacons: { url: string; body: any }[] = [];
  storage = new Storage();
  /** Makes this the page that code made from now on sees. */
  enter(): this {
    vi.stubGlobal("document", this);
    vi.stubGlobal("addEventListener", this.addEventListener.bind(this));
    vi.stubGlobal("sessionStorage", this.storage);
    return this;
  }
  show(visible: boolean): void {
    this.hidden = !visible;
    this.dispatchEvent(new Event("visibilitychange"));
  }
  leave(persisted = false): void {
    vi.stubGlobal("sessionStorage", this.storage);
    this.dispatchEvent(Object.assign(new Event("pagehide"), { persisted }));
  }
  back(): void {
    vi.stubGlobal("sessionStorage", this.storage);
    this.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  }
}
