// Tabs, reloads and returns: what a user does with a browser, and what others hear of it.

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { fact, sees, Stage } from "./stage.js";

let stage: Stage;
beforeAll(async () => void (stage = await Stage.set()));
afterEach(() => stage.closeTabs());
afterAll(() => stage?.clear());

test("two tabs of one user are one member, closing one emits nothing, and closing the last leaves within 6 s", async () => {
  const first = await stage.tab("ann", "tabs");
  const second = await stage.tab("ann", "tabs");
  await fact(() => stage.sessions("tabs")).toBe(2);
  expect(await stage.log("tabs")).toEqual(["joined ann"]);

  await first.close();
  await fact(() => stage.sessions("tabs")).toBe(1); // the grace is over, and the tab is gone
  expect(await stage.log("tabs")).toEqual(["joined ann"]);
  await sees(second, "ann");

  const [{ closed }] = await stage.rows("select clock_timestamp() as closed");
  await second.close();
  await fact(() => stage.log("tabs")).toEqual(["joined ann", "left ann left"]);
  const [{ at }] = await stage.rows("select at from headcount.events where room_id = 'tabs' and kind = 'left'");
  expect(at - closed).toBeLessThan(6000);
});

test("the page of the recipes shows who is here", async () => {
  const page = await stage.browser.newPage();
  await page.goto(`${stage.front.url}/recipe`);
  const names = "[...document.querySelectorAll('#online-users li')].map(({ textContent }) => textContent).sort().join()";
  await fact(() => page.evaluate(names)).toBe("ann");
  await stage.join("bob", "online");
  await fact(() => page.evaluate(names)).toBe("ann,bob");
  expect(await page.textContent("#count")).toBe("2");
  expect(await stage.log("online")).toEqual(["joined ann", "joined bob"]);
});

test("a reload emits nothing, and keeps the session", async () => {
  const page = await stage.tab("ann", "reload");
  const sessions = "select session_id from headcount.memberships where room_id = 'reload'";
  const before = await stage.rows(sessions);
  await page.reload();
  await sees(page, "ann");
  await stage.sweptAfter(6);
  expect(await stage.log("reload")).toEqual(["joined ann"]);
  expect(await stage.rows(sessions)).toEqual(before);
});

test("a page that comes back out of the back/forward cache is in the room again, and live", async () => {
  const page = await stage.tab("ann", "back");
  const made = await page.evaluate("window.test.made");
  await page.goto(`${stage.front.url}/elsewhere`);
  const leaving = "select from headcount.memberships where room_id = 'back' and leaving_at is not null";
  await fact(async () => (await stage.rows(leaving)).length).toBe(1);
  await page.evaluate("history.back()");
  await fact(() => page.evaluate("window.test?.returned")).toBe(1);
  expect(await page.evaluate("window.test.made")).toBe(made); // the same page, not one that was loaded anew
  await stage.join("bob", "back");
  await sees(page, "ann", "bob");
  await stage.sweptAfter(6);
  expect(await stage.log("back")).toEqual(["joined ann", "joined bob"]);
});

test("eight tabs over HTTP/1.1 all load, on one stream, and go on when the tab that reads it is closed", async () => {
  const pages: Page[] = [];
  for (let n = 1; n <= 8; n++) pages.push(await stage.tab("ann", "eight"));
  await fact(() => stage.sessions("eight")).toBe(8);
  expect(stage.front.streams.size).toBe(1);
  await stage.join("bob", "eight");
  for (const page of pages) await sees(page, "ann", "bob");

  await pages.shift()!.close();
  await fact(() => stage.front.streams.size).toBe(1);
  await stage.join("cho", "eight");
  for (const page of pages) await sees(page, "ann", "bob", "cho");
});

test("where fetch cannot stream, a ticket and EventSource do", async () => {
  const page = await stage.browser.newPage();
  await page.addInitScript("delete Response.prototype.body");
  await page.goto(`${stage.front.url}/page?user=ann&room=tickets`);
  await sees(page, "ann");
  // Streams of pages before may not be closed yet.
  const streams = [...stage.front.streams].map(({ req }) => req.url).filter((url) => url?.includes("tickets"));
  expect(streams).toEqual([expect.stringContaining("ticket=")]);
  await stage.join("bob", "tickets");
  await sees(page, "ann", "bob");
  stage.front.cut();
  await fact(() => stage.front.streams.size).toBe(1);
  await stage.join("cho", "tickets");
  await sees(page, "ann", "bob", "cho");
});

test("a stream that ends with its token goes on with a new one", async () => {
  stage.front.tokenSeconds = 3;
  const page = await stage.tab("ann", "expiry");
  const opened = stage.front.opened;
  await fact(() => stage.front.opened, 30_000).toBeGreaterThan(opened);
  await stage.join("bob", "expiry");
  await sees(page, "ann", "bob");
  expect(await stage.log("expiry")).toEqual(["joined ann", "joined bob"]);
});
