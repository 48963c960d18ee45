// Keeps rosters of the rooms that this tab wants: by a stream of its own, or from the tab that leads.

import type { Api } from "./api.js";
import { link, WATCHDOG_MS, type LinkEvent } from "./link.js";
import { fold, roster, snapshot, type Roster } from "./roster.js";
import { share, shareName, type Message, type Share } from "./share.js";
import type { Change, Frame, Line, Problem } from "./types.js";

/** Of the service, for one stream. */
export const ROOMS_MAX = 32;
/** The leader answers within milliseconds, unless it is frozen. */
const SETTLE_MS = 2000;

export interface FeedListener {
  change(room: string, change: Change): void;
  frame(frame: Frame): void;
  line(line: Line): void;
  refused(room: string, problem: Problem): void;
}

export function feed(url: string, api: Api, on: FeedListener) {
  const me = Math.random().toString(36).slice(2);
  const rosters = new Map<string, Roster>();
  const machine = link(rosters);
  const others = new Map<string, string[]>(); // what other tabs want
  const refused = new Set<string>();
  let wanted: string[] = [];
  let line: Line = { state: "connecting" };
  let started: object | undefined; // which start this is
  let ready = false;
  let tabs: Share | undefined;
  let leading = false;
  let reads: string[] = []; // what this tab reads itself, or would if its line were up
  let served: string[] = []; // what the leader reads
  let trusted = 0; // until when the leader's word counts
  let settling = 0; // until when a new want may be unanswered
  let reading: AbortController | undefined;
  const timers: Record<string, ReturnType<typeof setTimeout>> = {};

  const timer = (name: string, at: number, work: () => void) => {
    clearTimeout(timers[name]);
    if (at < Infinity) timers[name] = setTimeout(work, at - Date.now());
  };
  const post = (...message: Message) => tabs?.post(...message);
  const setLine = (now: Line) => {
    if (now.state !== line.state || now.until !== line.until) on.line(now);
    line = now;
  };

  function run(...event: LinkEvent): void {
    for (const effect of machine.step(event, Date.now(), Math.random())) {
      const [type, what] = effect;
      if (type === "open") open(what, effect[2]);
      else if (type === "close") reading?.abort();
      else if (type === "renew") api.renew();
      else if (type === "change") on.change(what, effect[2]);
      else if (type === "refused") void sortOut(what, effect[2]);
      else if (type === "line") {
        setLine(what);
        serve();
      } else {
        on.frame(what);
        // Followers answer a sync with what they want; who does not is no more.
        if (what.event === "sync") others.clear();
        if (leading) post("frame", what);
      }
    }
    timer("link", machine.wakeAt, () => run("tick"));
  }

  function open(rooms: string[], last?: string): void {
    const { signal } = (reading = new AbortController());
    const failed = (problem?: Problem) => signal.aborted || run("failed", problem);
    api.stream(rooms, last, signal, (frame) => run("frame", frame)).then(() => failed(), failed);
  }

  /** The service does not say which room it refused. A ticket asks for the same right. */
  async function sortOut(rooms: string[], problem: Problem): Promise<void> {
    const start = started;
    let pause = SETTLE_MS; // if no room is to blame, it may pass
    for (const room of rooms) {
      const found = rooms.length > 1 ? await api.call("POST", "/v1/tickets", { rooms: [room] }).catch((why) => why) : problem;
      if (start !== started) return;
      if (!found.final) continue;
      pause = 0;
      refused.add(room);
      if (wanted.includes(room)) on.refused(room, found);
    }
    timer("apply", Date.now() + pause, apply);
  }

  /** Decides which rooms this tab reads itself. */
  function apply(): void {
    if (!ready) return;
    const now = Date.now();
    const following = tabs && !leading;
    let mine = wanted;
    if (leading) mine = [wanted, ...others.values()].flat();
    else if (following) {
      mine = wanted.filter((room) => now >= trusted || !served.includes(room));
      if (now < settling) mine = mine.filter((room) => machine.opened.includes(room));
      timer("apply", Math.min(...[settling, trusted].filter((at) => at > now)), apply);
    }
    // Own rooms come first; a tab whose rooms do not fit sees that they are not served, and reads them itself.
    reads = [...new Set(mine)].filter((room) => !refused.has(room)).slice(0, ROOMS_MAX).sort();
    for (const room of [...wanted, ...reads]) rosters.has(room) || rosters.set(room, roster(room));
    run("rooms", reads);
    for (const room of rosters.keys()) {
      if (!wanted.includes(room) && !machine.opened.includes(room)) rosters.delete(room);
    }
    serve();
  }

  function serve(hello = false): void {
    if (!leading) return;
    const { name, message, code, status } = line.problem ?? ({} as Problem);
    // Plain, because the copy of an error that another tab gets is without its code.
    post("serves", reads, line.problem ? { ...line, problem: { name, message, code, status } } : line, hello);
  }
  function ask(): void {
    if (!leading) post("want", me, Object.fromEntries(wanted.map((room) => [room, rosters.get(room)?.cursor ?? ""])));
  }

  function hear(message: Message): void {
    const [type, what] = message;
    // All tabs keep count of what is wanted: each may lead next.
    if (type === "gone") others.delete(what);
    else if (type === "want") {
      others.set(what, Object.keys(message[2]));
      if (!leading) return;
      apply();
      for (const [room, cursor] of Object.entries(message[2])) {
        const held = rosters.get(room);
        if (held?.cursor && held.cursor !== cursor) post("frame", snapshot(held));
      }
    } else if (type === "nudge") {
      if (leading) run("wake");
    } else if (!leading) {
      const line = type === "serves" ? message[2] : undefined;
      trusted = Math.max(Date.now(), line?.until ?? 0) + WATCHDOG_MS + 5000;
      if (type === "frame") return follow(what);
      served = what;
      if (wanted.some((room) => served.includes(room))) setLine(line!);
      timer("nudge", line!.until ?? Infinity, wake);
      if (message[3]) ask();
      apply();
    }
  }

  function follow(frame: Frame): void {
    on.frame(frame);
    if (frame.event === "sync") ask();
    const held = rosters.get(frame.room!);
    if (!held) return;
    const had = held.cursor;
    const change = fold(held, frame);
    if (change === "gap") {
      held.cursor = undefined;
      if (had) ask();
    } else if (change !== "old") on.change(frame.room!, change);
  }

  function wake(): void {
    run("wake");
    if (!leading) post("nudge");
  }

  /** What tabs share depends on the token, so there must be one first. */
  function start(): void {
    const mine = (started = {});
    api.getToken().then(
      (token) => {
        if (started !== mine) return;
        ready = true;
        settling = Date.now() + SETTLE_MS;
        tabs = share(shareName(url, token), lead, hear);
        ask();
        apply();
      },
      (problem: Problem) => {
        if (started !== mine) return;
        const until = Date.now() + (problem.retryMs ?? 10_000);
        setLine({ state: problem.status === 401 ? "unauthorized" : "reconnecting", until, problem });
        timer("start", until, start);
      },
    );
  }

  function lead(): void {
    leading = true;
    clearTimeout(timers.nudge);
    apply();
    serve(true);
  }

  /** Lets go of everything that would keep the page from being put away whole, or other tabs from taking over. */
  function stop(): void {
    started = undefined;
    refused.clear();
    ready = leading = false;
    trusted = 0;
    for (const name in timers) clearTimeout(timers[name]);
    run("rooms", []);
    post("gone", me);
    tabs?.close();
    tabs = undefined;
  }

  return {
    rosters,
    want(rooms: string[]): void {
      for (const room of wanted) if (!rooms.includes(room)) refused.delete(room);
      const more = rooms.some((room) => !wanted.includes(room));
      wanted = rooms;
      if (!rooms.length) return stop();
      if (!started) return start();
      if (more) settling = Date.now() + SETTLE_MS;
      ask();
      apply();
    },
    wake,
    stop,
    start(): void {
      if (wanted.length) start();
    },
  };
}
