// What one session does to be present, as a state machine: events in, effects out. It knows neither clock nor network
// nor chance; whoever runs it hands these in, and sends a `tick` at `wakeAt`.
//
// It compares what is wanted with what the service has acknowledged, and makes one call at a time, so that none
// overtakes another. Changes that come while a call is out are sent as one.

import { backoff } from "./backoff.js";
import { BACKOFF_MAX_MS, BACKOFF_MS } from "./link.js";
import { ahead } from "./roster.js";
import type { Own, Problem } from "./types.js";

export interface Call {
  verb: "join" | "leave" | "update" | "beat";
  room: string;
  body: Own & { visible?: boolean; active?: boolean };
  /** Which edit of `own` the body carries. */
  edit: number;
  own?: Own;
}

export interface Answer {
  heartbeat_ms?: number;
  cursor?: string;
  member?: { id: string } | null;
  sessions?: { state: "alive" | "gone"; kicked?: string[] }[];
}

export type PresenceEvent =
  /** Be in this room, and show this there. */
  | ["want", string, Own]
  | ["unwant", string]
  | ["visible", boolean]
  /** The user did something; whether others see them idle. */
  | ["active", boolean]
  /** Of the call that is out. */
  | ["answer", Answer]
  | ["failed", Problem]
  /** The room's stream shows, at this cursor, that we are not in it, and whether we were kicked. */
  | ["absent", string, string, boolean]
  /** The page goes away, perhaps to come back. */
  | ["suspend"]
  | ["resume"]
  | ["tick"];

export type PresenceEffect =
  | ["call", Call]
  /** In this room, as this user. */
  | ["joined", string, string]
  /** What was to be shown in this room was refused. */
  | ["error", string, Problem]
  | ["ended", string, "left" | "kicked" | "refused", Problem?]
  /** The session belongs to another user, or remembers a future that we do not: use a new one. */
  | ["renew"]
  /** Leave this room with grace, without waiting for an answer. */
  | ["farewell", string];

interface Stay {
  wanted: boolean;
  own: Own;
  edit: number;
  acked: number;
  /** What the service took last, for when it refuses what came after. */
  known: Own;
  /** Position of the acknowledged join; none while we are not in the room. */
  at?: string;
  /** Whether a join was sent: it may have been done even if no answer came, so there is something to leave. */
  sent?: boolean;
}

export function presence() {
  const stays = new Map<string, Stay>();
  let out: Call | undefined;
  let suspended = false;
  let visible = true;
  let active = false;
  let beatAt = Infinity;
  let pausedUntil = 0;
  let failures = 0;
  let renewed = false;
  let wakeAt = Infinity;
  let effects: PresenceEffect[] = [];

  const present = () => [...stays.values()].some((stay) => stay.at);
  const absent = () => stays.forEach((stay) => (stay.at = undefined));
  const end = (room: string, reason: "left" | "kicked" | "refused", problem?: Problem) => {
    if (stays.delete(room)) effects.push(["ended", room, reason, problem]);
  };
  const renewSession = () => {
    renewed = true;
    absent();
    effects.push(["renew"]);
  };

  const next = (now: number): Call | undefined => {
    if (now >= beatAt && present()) return { verb: "beat", room: "", body: { visible, active }, edit: 0 };
    for (const [room, { wanted, own, edit, acked, at, sent }] of stays) {
      if (!wanted) {
        if (sent) return { verb: "leave", room, body: {}, edit };
        end(room, "left");
      } else if (!at) return { verb: "join", room, body: { ...own, visible }, edit, own };
      else if (acked < edit) return { verb: "update", room, body: own, edit, own };
    }
    return undefined;
  };
  const pump = (now: number) => {
    wakeAt = Infinity;
    if (out || suspended) return;
    const call = next(now);
    if (!call) wakeAt = present() ? beatAt : Infinity;
    else if (now < pausedUntil) wakeAt = pausedUntil;
    else {
      out = call;
      if (call.verb === "beat") active = false;
      if (call.verb === "join") stays.get(call.room)!.sent = true;
      effects.push(["call", call]);
    }
  };

  const answered = ({ verb, room, body, edit, own }: Call, answer: Answer, now: number) => {
    failures = 0;
    const stay = stays.get(room);
    if (answer.heartbeat_ms) {
      // What changed while the call was out must be told at once.
      beatAt = body.visible === visible ? now + answer.heartbeat_ms : now;
    }
    if (verb === "beat") {
      const [life] = answer.sessions ?? [];
      life?.kicked?.forEach((name) => end(name, "kicked"));
      if (life?.state === "gone") absent();
    } else if (verb === "leave") {
      if (stay) stay.at = stay.sent = undefined;
    } else if (verb === "join" && !answer.member && !renewed) renewSession();
    else if (stay) {
      renewed = false;
      if (verb === "join") {
        stay.at = answer.cursor;
        effects.push(["joined", room, answer.member?.id ?? ""]);
      }
      stay.acked = edit;
      stay.known = own!;
    }
  };
  const failed = ({ verb, room, body, edit }: Call, problem: Problem, now: number, random: number) => {
    const stay = stays.get(room);
    const foreign = problem.code === "session_not_found";
    if (body.active) active = true;
    if (!problem.final) {
      pausedUntil = now + Math.max(problem.retryMs ?? 0, backoff(++failures, BACKOFF_MS, BACKOFF_MAX_MS, random));
    } else if (verb === "join" && foreign && !renewed) renewSession();
    else if (verb === "update" && foreign && stay) stay.at = undefined; // a join carries the update too
    else if (verb === "update" && stay) {
      stay.acked = edit;
      if (edit === stay.edit) stay.own = stay.known; // or the next join would be refused for it
      effects.push(["error", room, problem]);
    } else if (verb === "leave") end(room, "left");
    else for (const name of verb === "beat" ? [...stays.keys()] : [room]) end(name, "refused", problem);
  };

  return {
    /** When to send a `tick`. */
    get wakeAt() {
      return wakeAt;
    },
    /** By room; not to be changed from outside. */
    stays,
    step(event: PresenceEvent, now: number, random: number): PresenceEffect[] {
      effects = [];
      const [type, what] = event;
      const call = out;
      if (type === "want") {
        const stay = stays.get(what) ?? { own: {}, known: {}, edit: 0, acked: 0 };
        const own = { ...stay.own, ...event[2] };
        const same = JSON.stringify(own) === JSON.stringify(stay.own);
        stays.set(what, { ...stay, wanted: true, own, edit: stay.edit + (same ? 0 : 1) });
      } else if (type === "unwant") {
        // A join that is out decides whether there is anything to leave.
        const stay = stays.get(what);
        if (stay) stay.wanted = false;
      } else if (type === "visible") {
        if (visible !== what) beatAt = now;
        visible = what;
      } else if (type === "active") {
        if (!active && what) beatAt = now;
        active = true;
      } else if (type === "absent") {
        const stay = stays.get(what);
        // Older news is of an earlier stay.
        if (stay?.at && !(ahead(event[2], stay.at) < 0)) {
          if (event[3]) end(what, "kicked");
          else if (!stay.own.invisible) stay.at = undefined; // no stream shows who is invisible
        }
      } else if (type === "suspend") {
        for (const [room, stay] of stays) {
          if (stay.sent) effects.push(["farewell", room]);
          stay.at = stay.sent = undefined;
        }
        out = undefined;
        suspended = true;
      } else if (type === "resume") {
        suspended = false;
        pausedUntil = 0;
      } else if (call && type !== "tick") {
        out = undefined;
        if (type === "answer") answered(call, what, now);
        else failed(call, what, now, random);
      }
      pump(now);
      return effects;
    },
  };
}
