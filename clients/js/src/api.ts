// Calls to the service with the caller's token, and streams by fetch or by EventSource.

import { parser } from "./sse.js";
import type { Frame, Problem, Token } from "./types.js";

/** Below the lease of 45 s, so that a call that hangs leaves time for others. */
const CALL_MS = 10_000;
const EVENTS = ["snapshot", "diff", "sync", "bye"];

export type Api = ReturnType<typeof api>;

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

export function api(url: string, source: Token) {
  const fixed = typeof source === "string";
  let token = fixed ? source : undefined;
  let asking: Promise<string> | undefined;

  async function ask(): Promise<string> {
    const late = () => new Promise<never>((_, reject) => setTimeout(reject, CALL_MS, new Error("no token in time")));
    return (token = await Promise.race([(source as () => string)(), late()]));
  }
  /** The token; asked for once, however many wait. */
  async function getToken(): Promise<string> {
    return token ?? (asking ??= ask().finally(() => (asking = undefined)));
  }
  function renew(used = token): void {
    if (!fixed && used === token) token = undefined;
  }

  /** A refused token is renewed once; what then is refused stays refused if the token is a fixed one. */
  async function send(method: string, path: string, options: RequestInit, again = false): Promise<Response> {
    const used = await getToken();
    const headers = { ...options.headers, Authorization: `Bearer ${used}` };
    const response = await fetch(url + path, { ...options, method, headers, cache: "no-store" });
    if (response.ok) return response;
    const refused = response.status === 401 && !fixed;
    if (refused) renew(used);
    if (refused && !again) return send(method, path, options, true);
    const problem = await problemOf(response);
    if (refused) problem.final = false; // the next token may be a good one
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

  return { getToken, renew, call, beacon, stream };
}
