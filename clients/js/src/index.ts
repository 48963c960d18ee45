// headcount({ url, token }).join("lobby"): be in rooms, and see who else is.

import { api } from "./api.js";
import { feed, ROOMS_MAX } from "./feed.js";
import { watchPage } from "./page.js";
import { presence, type Call, type PresenceEvent } from "./presence.js";
import { keepSession, newSession, takeSession } from "./session.js";
import type { Change, Frame, Line, Member, Own, Problem, Status, Token } from "./types.js";

export type { Change, Departed, Frame, LeaveReason, Line, Member, Own, Problem, Status, Token } from "./types.js";

export interface Options {
  /** Where the service is, without `/v1`; the page's own origin if not given. */
  url?: string;
  token: Token;
}

export interface Events {
  /** The members changed. Also once, soon, when they are known already. */
  change: Change;
  /** The line to the service changed. */
  line: Line;
  /** Every frame as it came, for logs. */
  frame: Frame;
  /** Something was refused for good. Without a listener it goes to the console. */
  error: Problem;
  /** The room is left, and will not be joined again by itself. */
  end: { reason: "left" | "kicked" | "refused"; problem?: Problem };
}

/** A room that is watched. */
export interface Watch {
  readonly name: string;
  readonly members: Member[];
  readonly count: number;
  readonly line: Line;
  /** Gives a function that stops listening. */
  on<E extends keyof Events>(event: E, listener: (data: Events[E]) => void): () => void;
  /** Others see it at once, if no other tab of the user is in the room. */
  leave(): void;
}

/** A room that this tab is in. */
export interface Room extends Watch {
  /** Shows others this state, at most 1 KiB of JSON. Changes that come faster than the service answers are sent as one. */
  update(state: unknown): void;
  setStatus(status: Status): void;
  /** Hides this session from others, or shows it again: for them a leave and a join. */
  setInvisible(invisible: boolean): void;
}

export interface Client {
  /** `watch: false`: be counted there, without hearing who else is. */
  join(room: string, options?: Own & { watch?: boolean }): Room;
  /** See who is in a room without being in it. */
  watch(room: string): Watch;
  /** Asks for a new token now, as after a login of the same user or when their rights changed. */
  refresh(): void;
  /** Leaves all rooms. */
  close(): void;
}

type Listeners = { [E in keyof Events]?: Set<(data: Events[E]) => void> };
interface Handle extends Room {
  joins: boolean;
  watches: boolean;
  listeners: Listeners;
}

export function headcount({ url = "", token }: Options): Client {
  const key = "headcount.session " + url;
  const calls = api(url, token, (problem) => emit(undefined, "error", problem));
  const machine = presence();
  const handles = new Set<Handle>();
  let session = takeSession(key);
  const warned = new Set<string>(); // kinds of errors that the console was told of
  let user: string | undefined;
  let line: Line = { state: "connecting" };
  let life = 0; // answers to calls of an earlier one are void
  let timer: ReturnType<typeof setTimeout>;
  let flushing = false;

  /** Each listener has a microtask of its own, so that its faults and its calls do not come into the middle of ours. */
  function tell<E extends keyof Events>({ name, listeners }: Handle, event: E, data: Events[E]): void {
    const told = listeners[event] as Set<(data: Events[E]) => void> | undefined;
    told?.forEach((listener) => queueMicrotask(() => listener(data)));
    const { code, message } = data as Problem;
    if (event !== "error" || told?.size || warned.has(code ?? message)) return;
    warned.add(code ?? message);
    console.error("headcount", name, data);
  }
  function emit<E extends keyof Events>(room: string | undefined, event: E, data: Events[E]): void {
    for (const handle of handles) if (room === undefined || handle.name === room) tell(handle, event, data);
  }

  const stream = feed(url, calls, {
    change(room, change) {
      emit(room, "change", change);
      checkStay(room, change.left.some(({ id, reason }) => id === user && reason === "kicked"));
    },
    frame: (frame) => emit(frame.room, "frame", frame),
    line(now) {
      line = now;
      emit(undefined, "line", now);
    },
    refused(room, problem) {
      emit(room, "error", problem);
      for (const handle of handles) {
        if (handle.name === room && !handle.joins) drop(handle, { reason: "refused", problem });
      }
      flush();
    },
  });

  /** If the room's stream shows that we are not in it, the service forgot us, or somebody sent us out. */
  function checkStay(room: string, kicked = false): void {
    const held = stream.rosters.get(room);
    if (!user || !held?.cursor || held.members.has(user) || !(held.complete || kicked)) return;
    run("absent", room, held.cursor, kicked);
  }

  function run(...event: PresenceEvent): void {
    for (const effect of machine.step(event, performance.now(), Math.random())) {
      const [type, what] = effect;
      if (type === "call") send(what);
      else if (type === "renew") session = newSession();
      else if (type === "farewell") {
        calls.beacon(path(what, "leave"), { session: session.id, grace: true, seq: ++session.seq });
      } else if (type === "joined") {
        user = effect[2];
        queueMicrotask(() => checkStay(what));
      } else if (type === "error") emit(what, type, effect[2]);
      else {
        const [, , reason, problem] = effect;
        for (const handle of handles) if (handle.name === what && handle.joins) drop(handle, { reason, problem });
        flush();
      }
    }
    clearTimeout(timer);
    if (machine.wakeAt < Infinity) timer = setTimeout(run, Math.max(0, machine.wakeAt - performance.now()), "tick");
  }

  function send({ verb, room, body }: Call): void {
    const mine = life;
    const data = { session: session.id, ...body, seq: ++session.seq };
    const update = verb === "update";
    const target = verb === "beat" ? "/v1/heartbeats" : path(room, update ? "presence" : verb);
    calls.call(update ? "PATCH" : "POST", target, data).then(
      (answer) => mine === life && run("answer", answer),
      (problem) => mine === life && run("failed", problem),
    );
  }

  function path(room: string, verb: string): string {
    return `/v1/rooms/${encodeURIComponent(room)}/${verb}`;
  }

  function drop(handle: Handle, end: Events["end"]): void {
    if (handles.delete(handle)) tell(handle, "end", end);
  }

  /** Names of the rooms that some handle joins, or watches. */
  function rooms(kind: "joins" | "watches"): string[] {
    return [...new Set([...handles].filter((handle) => handle[kind]).map(({ name }) => name))];
  }

  /** Tells the machines what all handles together want, after whoever changes them is done: a leave and a join in one
   *  go, as when a component is mounted anew, is nothing. */
  function flush(): void {
    if (flushing) return;
    flushing = true;
    queueMicrotask(() => {
      flushing = false;
      const now = rooms("joins");
      for (const room of machine.stays.keys()) if (!now.includes(room)) run("unwant", room);
      stream.want(rooms("watches"));
    });
  }

  function open(name: string, joins: boolean, watches: boolean, own: Own): Handle {
    const held = () => stream.rosters.get(name);
    const change = (part: Own) => {
      if (handles.has(handle)) run("want", name, part);
    };
    const handle: Handle = {
      name, joins, watches,
      listeners: {},
      get members() {
        return [...(held()?.members.values() ?? [])];
      },
      get count() {
        return held()?.count ?? 0;
      },
      get line() {
        return line;
      },
      on(event, listener) {
        const all = ((handle.listeners[event] as Set<typeof listener> | undefined) ??= new Set<typeof listener>() as never) as Set<typeof listener>;
        all.add(listener);
        if (event === "change") {
          queueMicrotask(() => {
            if (!held()?.cursor || !all.has(listener)) return;
            const { members, count } = handle;
            (listener as (data: Change) => void)({ members, count, joined: [], updated: [], left: [] });
          });
        }
        return () => all.delete(listener);
      },
      update: (state) => change({ state }),
      setStatus: (status) => change({ status }),
      setInvisible: (invisible) => change({ invisible }),
      leave() {
        drop(handle, { reason: "left" });
        flush();
      },
    };
    handles.add(handle);
    if (rooms("watches").length > ROOMS_MAX) {
      handles.delete(handle);
      throw new RangeError(`more than ${ROOMS_MAX} rooms`);
    }
    if (joins) run("want", name, own);
    flush();
    return handle;
  }

  const unwatch = watchPage({
    visible(visible) {
      run("visible", visible);
      if (visible) stream.wake();
    },
    active() {
      run("active", rooms("joins").some((room) => stream.rosters.get(room)?.members.get(user!)?.status === "idle"));
    },
    online: stream.wake,
    hide() {
      life++;
      run("suspend");
      stream.stop();
      keepSession(key, session);
    },
    show() {
      session = takeSession(key);
      run("resume");
      stream.start();
    },
  });

  return {
    join: (room, { watch = true, ...own } = {}) => open(room, true, watch, own),
    watch: (room) => open(room, false, true, {}),
    refresh() {
      calls.refresh();
      stream.stop();
      stream.start();
      run("resume");
    },
    close() {
      for (const handle of handles) handle.leave();
      unwatch();
    },
  };
}
