// What breaks between a page and the rooms it is in, and heals without a reload.

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { fact, sees, Stage } from "./stage.js";

let stage: Stage;
beforeAll(async () => void (stage = await Stage.set()));
afterEach(() => stage.closeTabs());
afterAll(() => stage?.clear());

const lines = (page: Page) => page.evaluate<string[]>("window.test.lines");
const line = (page: Page) => page.evaluate<string>("window.test.room.line.state");

/** Somebody who comes now is seen by the page as it is, and nobody was ever gone. */
async function recovered(page: Page, room: string, made: unknown): Promise<void> {
  await fact(() => line(page), 30_000).toBe("live");
  await stage.join("bob", room);
  await sees(page, "ann", "bob");
  expect(await page.evaluate("window.test.made")).toBe(made);
  expect(await stage.log(room)).toEqual(["joined ann", "joined bob"]);
}

test("a restart of the service is survived without a reload", async () => {
  const page = await stage.tab("ann", "restart");
  const made = await page.evaluate("window.test.made");
  await stage.service.stop("SIGTERM");
  await fact(() => line(page)).toBe("reconnecting");
  await stage.service.resume();
  await recovered(page, "restart", made);
});

test("a service that is killed is survived without a reload", async () => {
  const page = await stage.tab("ann", "killed");
  const made = await page.evaluate("window.test.made");
  await stage.service.stop("SIGKILL");
  await fact(() => line(page)).toBe("reconnecting");
  await stage.service.resume();
  await recovered(page, "killed", made);
});

test("a restart of Postgres is survived without a reload", async () => {
  const page = await stage.tab("ann", "postgres");
  const made = await page.evaluate("window.test.made");
  const opened = stage.front.opened;
  await stage.postgres.stop();
  const ready = () => fetch(`${stage.service.url}/readyz`).then(({ status }) => status);
  await fact(ready).toBe(503);
  await stage.postgres.resume();
  await stage.connect();
  await fact(ready).toBe(200);
  expect(stage.front.opened).toBe(opened); // the stream was open all the time
  await recovered(page, "postgres", made);
});

test("a proxy that answers 502 for a while is survived without a reload", async () => {
  const page = await stage.tab("ann", "bad");
  const made = await page.evaluate("window.test.made");
  const opened = stage.front.opened;
  stage.front.bad = true;
  stage.front.cut();
  await fact(() => stage.front.refused).toBeGreaterThan(1);
  expect(await line(page)).toBe("reconnecting");
  stage.front.bad = false;
  await recovered(page, "bad", made);
  expect(stage.front.opened).toBe(opened + 1);
});

test("a stream that goes silent without an end is given up after 40 s", async () => {
  const page = await stage.browser.newPage();
  await page.clock.install();
  await page.goto(`${stage.front.url}/page?user=ann&room=silent`);
  await sees(page, "ann");
  const made = await page.evaluate("window.test.made");
  const opened = stage.front.opened;
  stage.front.mute();
  await stage.join("bob", "silent");
  await page.clock.runFor(39_000);
  expect(await lines(page)).not.toContain("reconnecting");
  await page.clock.runFor(2000);
  expect(await lines(page)).toContain("reconnecting");
  await page.clock.runFor(2000); // the first backoff is at most a second
  await fact(() => stage.front.opened).toBe(opened + 1);
  await sees(page, "ann", "bob");
  expect(await page.evaluate("window.test.made")).toBe(made);
});
