// Calls to the service with the caller's token, and streams by fetch or by EventSource.

import { parser } from "./sse.js";
import type { Frame, Problem, Token } from "./types.js";

/** Below the lease of 45 s, so that a call that hangs leaves time for others. */
const CALL_MS = 10_000;
/** After a first failure to get a token, and then. The service that refused a token is asked no more often than that. */
const AGAIN_MS = 2000;
const HOLD_MS = 10_000;
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;
const EVENTS = ["snapshot", "diff", "sync", "bye"];

export type Api = ReturnType<typeof api>;

/** Nothing at all is the answer for somebody who is logged out. The text itself may be a secret: it is not told. */
function noToken(text: unknown): Problem {
  const why = "the token function gave no JWT: check answer.ok";
  return Object.assign(new Error(why), { code: "bad_token", status: text ? undefined : 401 });
}

/** By the issuer's clock alone where it says `iat`; a clock of ours that makes no sense makes no early renewal. */
function lifeMs(token: string): number {
  const { exp, iat = Date.now() / 1000 } = claims(token) ?? {};
  return exp > iat ? (exp - iat) * 1000 : Infinity;
}

export function claims(token: string): any {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return undefined; // no JWT that we can read
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const { detail, title, code } = await response.json().catch(() => ({})); // a proxy answers in HTML
  const { status } = response;
  const retryMs = Number(response.headers.get("Retry-After")) * 1000 || undefined;
  return Object.assign(new Error(detail ?? title ?? `the service answered ${status}`), {
    code, status, retryMs,
    // Faults of the service and of proxies may pass, and too many requests.
    final: status < 500 && ![408, 409, 425, 429].includes(status),
  });
}

/** `told` hears why there is no token that the service takes; once, until there is one again. */
export function api(url: string, source: Token, told: (problem: Problem) => void = () => {}) {
  const fixed = typeof source === "string";
  let token = fixed ? source : undefined;
  let asking: Promise<string> | undefined;
  let askedAt = -Infinity;
  let staleAt = Infinity; // when to ask for the next token, while this one still is good
  let failures = 0;
  let doubted = false; // whether the service refused the last token, and took none since
  let held: Problem | undefined; // why nothing is sent
  let heldUntil = 0;

  /** Holds all calls of the page back, so that each of them does not ask for a token of its own. */
  function hold(problem: Problem, ms: number): void {
    if (!held) told(problem);
    token = undefined;
    held = problem;
    heldUntil = performance.now() + ms * (1 + Math.random() / 10);
  }
  async function ask(): Promise<string> {
    const late = () => new Promise<never>((_, reject) => setTimeout(reject, CALL_MS, new Error("no token in time")));
    askedAt = performance.now();
    try {
      const text = await Promise.race([(source as () => string)(), late()]);
      if (!JWT.test(text)) throw noToken(text);
      staleAt = askedAt + lifeMs(text) * 0.9;
      failures = 0;
      return (token = text);
    } catch (fault) {
      const problem: Problem = fault instanceof Error ? fault : new Error(String(fault));
      if (problem.final) throw problem; // so says the application
      staleAt = askedAt + HOLD_MS;
      if (token !== undefined) return token; // renewal was early: the old one may do
      hold(problem, failures++ ? HOLD_MS : AGAIN_MS);
      return refuse();
    }
  }
  function refuse(): never {
    throw Object.assign(held!, { final: false, retryMs: Math.max(1, heldUntil - performance.now()) });
  }
  /** The token; asked for once, however many wait. */
  async function getToken(): Promise<string> {
    const now = performance.now();
    if (fixed || (token !== undefined && now < staleAt)) return token!;
    if (held && now < heldUntil) refuse();
    return (asking ??= ask().finally(() => (asking = undefined)));
  }
  function renew(used = token): void {
    if (!fixed && used === token) token = undefined;
  }
  function refresh(): void {
    renew();
    doubted = false;
    heldUntil = 0;
  }

  /** Whether to send again: a refused token is renewed once, and so is one that may be older than the user's right to a room. */
  function again(used: string, problem: Problem): boolean {
    if (fixed) return false;
    if (problem.status !== 401) {
      const old = problem.code === "room_not_found" && performance.now() - askedAt > AGAIN_MS;
      if (old) renew(used);
      return old;
    }
    problem.final = false; // the next token may be a good one
    if (used === token) {
      if (doubted) hold(problem, HOLD_MS);
      else renew(used);
      doubted = true;
    }
    return token !== undefined || !held || performance.now() >= heldUntil;
  }
  async function send(method: string, path: string, options: RequestInit, last = false): Promise<Response> {
    const used = await getToken();
    const headers = { ...options.headers, Authorization: `Bearer ${used}` };
    const response = await fetch(url + path, { ...options, method, headers, cache: "no-store" });
    if (response.status !== 401 && response.status < 500) {
      held = undefined;
      doubted = false;
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (again(used, problem) && !last) return send(method, path, options, true);
    if (held && !fixed && problem.status === 401) refuse();
    throw problem;
  }

  async function call(method: string, path: string, body: unknown): Promise<any> {
    const headers = { "Content-Type": "application/json" };
    const signal = AbortSignal.timeout(CALL_MS);
    return (await send(method, path, { headers, body: JSON.stringify(body), signal })).json();
  }

  /** For a page that goes: without an answer, and without the header that would need one in another origin. */
  function beacon(path: string, body: object): void {
    if (token === undefined) return;
    const text = JSON.stringify({ ...body, token });
    if (globalThis.navigator?.sendBeacon?.(url + path, text)) return;
    const headers = { "Content-Type": "text/plain" };
    fetch(url + path, { method: "POST", body: text, headers, keepalive: true }).catch(() => {});
  }

  /** Reads a stream of rooms to its end. */
  async function stream(rooms: string[], last: string | undefined, signal: AbortSignal, hear: (frame: Frame) => void) {
    const deliver = (event: string, data: string) => signal.aborted || hear({ ...JSON.parse(data), event });
    const path = `/v1/events?rooms=${rooms.join(",")}`;
    if (!("body" in Response.prototype)) {
      return eventSource(rooms, path, last, signal, deliver);
    }
    const headers: HeadersInit = last ? { "Last-Event-ID": last } : {};
    const response = await send("GET", path, { headers, signal });
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new Error("not an event stream");
    }
    const reader = response.body!.getReader();
    const text = new TextDecoder();
    const parse = parser(deliver);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parse(text.decode(value, { stream: true }));
    }
  }

  /** Where fetch cannot stream. EventSource sends no header: hence a ticket. It is not left to reconnect by itself,
   *  because it stops for ever on the first error status. */
  async function eventSource(
    rooms: string[], path: string, last: string | undefined, signal: AbortSignal, deliver: (event: string, data: string) => void,
  ): Promise<void> {
    const { ticket } = await call("POST", "/v1/tickets", { rooms });
    const query = `&ticket=${encodeURIComponent(ticket)}${last ? `&last_event_id=${encodeURIComponent(last)}` : ""}`;
    if (signal.aborted) return;
    const source = new EventSource(url + path + query);
    const ended = new Promise<void>((resolve) => {
      source.onerror = () => resolve();
      signal.addEventListener("abort", () => resolve());
    });
    for (const event of EVENTS) {
      source.addEventListener(event, ({ data }) => deliver(event, data));
    }
    await ended;
    source.close();
  }

  return { getToken, renew, refresh, call, beacon, stream };
}
