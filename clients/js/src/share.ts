// One stream for all tabs. The tab that holds a lock leads: it reads the stream and tells the others over a channel.
// The lock passes on when that tab closes, crashes or is put away. Over HTTP/1.1 a browser allows six connections to a
// host for all tabs together; without this a seventh tab would not load.

import { claims } from "./api.js";
import type { Frame, Line } from "./types.js";

export type Message =
  /** A tab wants rooms, and is at these cursors (empty: nowhere). Repeated at every `sync`. */
  | ["want", string, Record<string, string>]
  | ["gone", string]
  /** What the leader reads, and how its line is; whether it has just begun and asks what is wanted. */
  | ["serves", string[], Line, boolean]
  | ["frame", Frame]
  /** A tab that is looked at asks a hidden leader, whose timers the browser holds back, to try again now. */
  | ["nudge"];

export interface Share {
  post(...message: Message): void;
  close(): void;
}

/** Nothing where the browser lacks either half, or withholds it because the page did not come over TLS. */
export function share(name: string, lead: () => void, hear: (message: Message) => void): Share | undefined {
  const { navigator, BroadcastChannel } = globalThis;
  if (!navigator?.locks || !BroadcastChannel) return undefined;
  const channel = new BroadcastChannel(name);
  const abort = new AbortController();
  let release = () => {};
  channel.onmessage = ({ data }) => hear(data);
  navigator.locks
    .request(name, { signal: abort.signal }, () => {
      if (abort.signal.aborted) return undefined;
      lead();
      return new Promise<void>((resolve) => (release = resolve));
    })
    .catch(() => {}); // closed while it waited
  return {
    post: (...message) => channel.postMessage(message),
    close() {
      abort.abort();
      release();
      channel.onmessage = null;
      channel.close();
    },
  };
}

/** Tabs share if their tokens allow the same rooms: rosters are the same for all who may see them. */
export function shareName(url: string, token: string): string {
  const read = claims(token);
  return `headcount ${url} ${JSON.stringify(read ? read.rooms : token) ?? ""}`;
}
