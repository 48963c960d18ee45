// usePresence(client, "lobby"): in the room while the component is mounted, and drawn anew when the members change.

import { useCallback, useEffect, useRef, useState } from "react";
import type { Client, Line, Member, Own, Room } from "./index.js";

export interface Presence {
  members: Member[];
  count: number;
  line: Line["state"];
  /** Shows others this state. */
  update(state: unknown): void;
}

export interface PresenceOptions extends Own {
  /** `false`: watch without being in the room. */
  join?: boolean;
}

/** `client` must be the same at every render: make it outside of components. */
export function usePresence(client: Client, room: string, options: PresenceOptions = {}): Presence {
  const { join = true, ...own } = options;
  const held = useRef<Room>(undefined);
  const [view, setView] = useState<Omit<Presence, "update">>({ members: [], count: 0, line: "connecting" });
  const shown = JSON.stringify(own);

  useEffect(() => {
    const opened = join ? client.join(room, own) : client.watch(room);
    held.current = join ? (opened as Room) : undefined;
    const draw = () => setView({ members: opened.members, count: opened.count, line: opened.line.state });
    draw();
    const stops = [opened.on("change", draw), opened.on("line", draw)];
    return () => {
      stops.forEach((stop) => stop());
      opened.leave();
    };
  }, [client, room, join]);

  // The first of these repeats what the join says, and costs nothing: both go out as one call.
  useEffect(() => {
    if ("state" in own) held.current?.update(own.state);
    if (own.status) held.current?.setStatus(own.status);
    if (own.invisible !== undefined) held.current?.setInvisible(own.invisible);
  }, [shown]);

  const update = useCallback((state: unknown) => held.current?.update(state), []);
  return { ...view, update };
}
