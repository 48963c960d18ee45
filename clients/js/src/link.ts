// One line to the service that carries the frames of many rooms, as a state machine: events in, effects out. It knows
// neither clock nor network nor chance; whoever runs it hands these in, and sends a `tick` at `wakeAt`.

import { backoff } from "./backoff.js";
import { advance, fold, lastEventId, type Roster } from "./roster.js";
import type { Change, Frame, Line, Problem } from "./types.js";

/** `sync` comes every 15 s: two were missed, and then some. */
export const WATCHDOG_MS = 40_000;
export const BACKOFF_MS = 1000;
/** Who looks at a page waits no longer than this once the service is back. */
export const BACKOFF_MAX_MS = 10_000;

export type LinkEvent =
  /** Sorted, as the service sorts them for `Last-Event-ID`. */
  | ["rooms", string[]]
  | ["frame", Frame]
  /** The stream could not be opened, or ended without a bye. */
  | ["failed", Problem?]
  | ["tick"]
  /** Somebody looks, or the network is back: no reason to sit out a backoff. */
  | ["wake"];

export type LinkEffect =
  /** With `Last-Event-ID`, if something is known. */
  | ["open", string[], string?]
  | ["close"]
  | ["frame", Frame]
  | ["change", string, Change]
  | ["line", Line]
  /** The token has run out: get a new one before the next `open`. */
  | ["renew"]
  /** The service will not open a stream of these rooms. Nothing more happens until `rooms`. */
  | ["refused", string[], Problem];

export function link(rosters: Map<string, Roster>) {
  let phase: "off" | "waiting" | "reading" = "off";
  let rooms: string[] = [];
  let opened: string[] = [];
  let at = Infinity; // when to open again, or when to give the stream up
  let told = false; // whether the service set the waiting time
  let failures = 0;
  let line = "";
  let effects: LinkEffect[] = [];

  const say = (state: Line["state"], until?: number, problem?: Problem) => {
    if (line === state && !until) return;
    line = state;
    effects.push(["line", problem ? { state, until, problem } : { state, until }]);
  };
  const close = () => {
    if (phase === "reading") effects.push(["close"]);
    phase = "off";
    at = Infinity;
    opened = [];
  };
  const open = (now: number) => {
    close();
    phase = "reading";
    opened = rooms;
    at = now + WATCHDOG_MS;
    effects.push(["open", rooms, lastEventId(rooms, rosters)]);
  };
  const wait = (until: number, byService: boolean, problem?: Problem) => {
    close();
    phase = "waiting";
    at = until;
    told = byService;
    say(problem?.status === 401 ? "unauthorized" : "reconnecting", until, problem);
  };
  const fail = (now: number, random: number, problem?: Problem) => {
    const pause = backoff(failures++, BACKOFF_MS, BACKOFF_MAX_MS, random);
    const asked = problem?.retryMs ?? 0;
    wait(now + Math.max(asked, pause), asked > 0, problem);
  };

  const read = (frame: Frame, now: number, random: number) => {
    at = now + WATCHDOG_MS;
    if (frame.event === "bye") {
      if (frame.reason === "token_expired") effects.push(["renew"]);
      return wait(now + frame.retry_ms!, true);
    }
    failures = 0;
    if (frame.event === "sync") {
      advance(opened, rosters, frame.cursor!);
      effects.push(["frame", frame]);
    } else {
      const roster = rosters.get(frame.room!);
      const change = roster ? fold(roster, frame) : "old";
      if (change === "gap") {
        roster!.cursor = undefined; // so that the next stream begins with a snapshot
        return fail(now, random);
      }
      effects.push(["frame", frame]);
      if (change !== "old") effects.push(["change", frame.room!, change]);
    }
    say(frame.stale ? "stale" : "live");
  };

  return {
    /** When to send a `tick`. */
    get wakeAt() {
      return at;
    },
    /** The rooms that the stream carries now. */
    get opened() {
      return opened;
    },
    step([type, what]: LinkEvent, now: number, random: number): LinkEffect[] {
      effects = [];
      const reading = phase === "reading";
      if (type === "rooms") {
        rooms = what;
        if (!rooms.length) close();
        else if (phase === "off") {
          say("connecting");
          open(now);
        }
        // A room too many costs some frames until the next stream; one too few needs a new stream now.
        else if (reading && rooms.some((room) => !opened.includes(room))) open(now);
      } else if (type === "wake") {
        if (phase === "waiting" && !told) open(now);
      } else if (type === "tick") {
        if (now < at) return effects;
        if (reading) fail(now, random);
        else if (phase === "waiting") open(now);
      } else if (!reading) {
        // Of a stream that was given up.
      } else if (type === "frame") read(what, now, random);
      else if (what?.final) {
        const asked = opened;
        close();
        effects.push(["refused", asked, what]);
      } else fail(now, random, what);
      return effects;
    },
  };
}
