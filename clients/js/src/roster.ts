// Folds the frames of one room into its members. Pure: no clock, no network.

import type { Change, Departed, Frame, Member } from "./types.js";

export interface Roster {
  room: string;
  /** Position of what is held; none before the first snapshot, or when what is held cannot be trusted. */
  cursor?: string;
  members: Map<string, Member>;
  count: number;
  /** Whether all members are held: the service lists the first 1000. */
  complete: boolean;
}

export function roster(room: string): Roster {
  return { room, members: new Map(), count: 0, complete: true };
}

/** How far a position is ahead of another, in versions. NaN across epochs, which cannot be compared. */
export function ahead(cursor: string, of: string): number {
  const [epoch, version] = cursor.split(".");
  const [ofEpoch, ofVersion] = of.split(".");
  return epoch === ofEpoch ? +version - +ofVersion : NaN;
}

/** `"old"`: known already, nothing done. `"gap"`: this does not follow from what is held; only a snapshot helps. */
export function fold(roster: Roster, frame: Frame): Change | "old" | "gap" {
  const before = roster.cursor;
  const whole = frame.event === "snapshot";
  const steps = before ? ahead(frame.cursor!, before) : NaN;
  if (steps <= 0) return "old";
  // Versions may be skipped, because frames are folded; another epoch is another history.
  if (!(steps > 0 || whole)) return "gap";

  const was = roster.members;
  const members = whole ? new Map(frame.members!.map((member) => [member.id, member])) : new Map(was);
  const left: Departed[] = [];
  if (whole) for (const member of was.values()) members.has(member.id) || left.push(member);
  for (const gone of frame.left ?? []) {
    left.push({ ...was.get(gone.id), ...gone });
    members.delete(gone.id);
  }
  for (const member of [...(frame.joined ?? []), ...(frame.updated ?? [])]) members.set(member.id, member);

  roster.members = members;
  roster.count = frame.count!;
  if (whole) roster.complete = members.size === roster.count;
  if (roster.complete && members.size !== roster.count) {
    roster.cursor = undefined;
    return "gap";
  }
  roster.cursor = frame.cursor;
  const joined: Member[] = [];
  const updated: Member[] = [];
  for (const member of members.values()) {
    const old = was.get(member.id);
    if (!old) joined.push(member);
    else if (old !== member && JSON.stringify(old) !== JSON.stringify(member)) updated.push(member);
  }
  // The first snapshot is how things are: nobody joined just now.
  return { members: [...members.values()], count: roster.count, joined: before || was.size ? joined : [], updated, left };
}

/** What was held, as the frame that would bring somebody else there. */
export function snapshot({ room, cursor, members, count }: Roster): Frame {
  return { event: "snapshot", room, cursor, members: [...members.values()], count };
}

/** `Last-Event-ID` of a stream of these rooms; `0.0` is in no history, so that its room gets a snapshot. */
export function lastEventId(rooms: string[], rosters: Map<string, Roster>): string | undefined {
  const cursors = rooms.map((room) => rosters.get(room)?.cursor ?? "0.0");
  return cursors.some((cursor) => cursor !== "0.0") ? cursors.join(",") : undefined;
}

/** A `sync` says that everything up to its cursors was sent: versions that cancelled out made no frame. */
export function advance(rooms: string[], rosters: Map<string, Roster>, cursors: string): void {
  cursors.split(",").forEach((cursor, index) => {
    const held = rosters.get(rooms[index]);
    if (held?.cursor && ahead(cursor, held.cursor) > 0) held.cursor = cursor;
  });
}
