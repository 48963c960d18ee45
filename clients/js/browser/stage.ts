// A browser, a service, a database, and what stands between them; and the facts that tests wait for.

import { chromium, type BrowserContext, type Page } from "playwright-core";
import { expect } from "vitest";
import type { Client } from "pg";
import { Front } from "./front.js";
import { Ends, needed, Postgres, said, Service, start, stop, temporaryDir } from "./processes.js";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
/** Playwright switches these off; here they are what is tested. */
const PLAYWRIGHT_S_OWN = [
  "--disable-back-forward-cache", "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];

const PROGRAM = needed("HEADCOUNT_CHROMIUM");

export async function openBrowser(ends: Ends): Promise<BrowserContext> {
  const browser = await chromium.launch({ executablePath: PROGRAM, args: FLAGS, ignoreDefaultArgs: PLAYWRIGHT_S_OWN });
  ends.add(() => browser.close());
  return browser.newContext();
}

/** One window, in which a tab in front hides the others: Playwright has the pages that it launches believe that all of
 *  them are looked at. */
export async function openWindow(ends: Ends): Promise<BrowserContext> {
  const profile = temporaryDir(ends);
  const child = start("KILL", [], [PROGRAM, "--headless", "--remote-debugging-port=0", `--user-data-dir=${profile}`, ...FLAGS], {});
  ends.add(() => stop(child, "SIGTERM"));
  const [address] = /ws:\S+/.exec(await said(child, "DevTools listening on", "stderr"))!;
  const browser = await chromium.connectOverCDP(address, { noDefaults: true });
  ends.add(() => browser.close());
  return browser.contexts()[0];
}

export class Stage {
  private readonly ends = new Ends();
  postgres!: Postgres;
  service!: Service;
  front!: Front;
  browser!: BrowserContext;
  database!: Client;

  static async set(env: Record<string, string> = {}, open = openBrowser): Promise<Stage> {
    const stage = new Stage();
    try {
      stage.postgres = await Postgres.start(stage.ends);
      stage.service = await Service.serve(stage.ends, stage.postgres.url, env);
      stage.front = await Front.start(stage.ends, stage.service);
      stage.browser = await open(stage.ends);
      await stage.connect();
    } catch (error) {
      await stage.clear();
      throw error;
    }
    return stage;
  }
  async clear(): Promise<void> {
    await this.database?.end().catch(() => {});
    await this.ends.run();
  }
  async connect(): Promise<void> {
    this.database = await this.postgres.connect();
  }

  /** A tab of a user in a room, once it sees itself there. */
  async tab(user: string, room: string): Promise<Page> {
    const page = await this.browser.newPage();
    await page.goto(`${this.front.url}/page?user=${user}&room=${room}`);
    await sees(page, user);
    return page;
  }
  /** Joins without a browser. */
  async join(user: string, room: string): Promise<void> {
    await this.service.call("POST", `/v1/rooms/${room}/join`, { user, session: crypto.randomUUID() });
  }
  async closeTabs(): Promise<void> {
    for (const page of this.browser.pages()) await page.close();
  }

  async rows(query: string, ...values: unknown[]): Promise<any[]> {
    return (await this.database.query(query, values)).rows;
  }
  /** A room's events, as `joined ann` or `left ann expired`. */
  async log(room: string): Promise<string[]> {
    const query = "select concat_ws(' ', kind, user_id, reason) as event from headcount.events where room_id = $1 order by version";
    return (await this.rows(query, room)).map(({ event }) => event);
  }
  async sessions(room: string): Promise<number> {
    return (await this.rows("select from headcount.memberships where room_id = $1", room)).length;
  }
  /** Waits until the service has swept that much later than now, by the database's clock. */
  async sweptAfter(seconds: number): Promise<void> {
    const [{ due }] = await this.rows("select (clock_timestamp() + make_interval(secs => $1))::text as due", seconds);
    const query = "select last_sweep_at > $1::timestamptz as swept from headcount.sweep_state";
    await fact(async () => (await this.rows(query, due))[0].swept, (seconds + 10) * 1000).toBe(true);
  }
}

/** A fact to wait for, asked again and again. */
export function fact<T>(ask: () => T | Promise<T>, timeout = 15_000) {
  return expect.poll(ask, { timeout, interval: 50 });
}

export const members = (page: Page): Promise<string[]> =>
  page.evaluate("window.test?.room.members.map(({ id }) => id).sort() ?? []");

/** Waits until the page shows exactly these members. */
export async function sees(page: Page, ...users: string[]): Promise<void> {
  await fact(() => members(page)).toEqual(users.sort());
}
