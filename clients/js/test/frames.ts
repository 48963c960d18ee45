// Frames as the service sends them.

import type { Frame, Member } from "../src/types.js";

export const member = (id: string, more: Partial<Member> = {}): Member => ({
  id, name: id.toUpperCase(), avatar_url: null, status: "online", state: {}, sessions: 1, joined_at: "2026-01-31T12:00:00.000Z", ...more,
});

export const snap = (cursor: string, ids: string[], room = "lobby"): Frame => ({
  event: "snapshot", room, cursor, count: ids.length, members: ids.map((id) => member(id)), reason: "initial",
});

export const diff = (cursor: string, count: number, part: Partial<Frame>, room = "lobby"): Frame => ({
  event: "diff", room, cursor, count, joined: [], updated: [], left: [], ...part,
});
