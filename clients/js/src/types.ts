// What goes over the wire and what an application sees of it. The service's OpenAPI document is the reference.

export type Status = "online" | "idle" | "dnd";

/** A user with at least one live session in a room. `name` is text that others chose: never HTML. */
export interface Member {
  id: string;
  name: string;
  avatar_url: string | null;
  status: Status;
  state: any;
  sessions: number;
  joined_at: string;
  /** Of oneself, while nobody else is told. */
  invisible?: boolean;
}

export type LeaveReason = "left" | "expired" | "kicked";

/** Somebody who was a member. `name` and so on are as last seen; absent if never seen. */
export type Departed = Partial<Member> & { id: string; reason?: LeaveReason };

/** The members after a change, and what changed. `count` exceeds `members` in rooms of over 1000. */
export interface Change {
  members: Member[];
  count: number;
  joined: Member[];
  updated: Member[];
  left: Departed[];
}

/** What this session shows of itself in a room. */
export interface Own {
  status?: Status;
  state?: unknown;
  /** Others do not see this session: in no list, count or event. */
  invisible?: boolean;
}

/** How the line to the service is; `until` is when a lost one is tried again, in milliseconds as of `Date.now()`. */
export interface Line {
  state: "connecting" | "live" | "stale" | "reconnecting" | "unauthorized";
  until?: number;
  /** Why it is lost, where that is known. */
  problem?: Problem;
}

/** A frame of an event stream: `event` is its name, the rest its data. */
export interface Frame {
  event: string;
  room?: string;
  cursor?: string;
  count?: number;
  members?: Member[];
  joined?: Member[];
  updated?: Member[];
  left?: { id: string; reason: LeaveReason }[];
  reason?: string;
  stale?: boolean;
  retry_ms?: number;
}

/** An error of the service. `final`: asking again will not help. */
export interface Problem extends Error {
  code?: string;
  status?: number;
  retryMs?: number;
  final?: boolean;
}

/** A token, or what gets a new one; the latter is asked again when the service refuses the last. */
export type Token = string | (() => string | Promise<string>);
