// A hidden tab whose timers the browser holds back. Five minutes pass on two test clocks that go together: the page's,
// which lets timers fire once a minute, as browsers do for pages that were hidden for long; and the database's, whose
// rows are made older.

import { afterAll, beforeAll, expect, test } from "vitest";
import { fact, openWindow, sees, Stage } from "./stage.js";

const MINUTES = 5;
/** So that the clocks move on only when the heartbeat that a minute brought, if it did, is answered. */
const COUNT_BEATS = `
  window.beats = { begun: 0, done: 0 };
  const real = window.fetch;
  window.fetch = async (url, init) => {
    const beat = url.endsWith("/heartbeats");
    beats.begun += beat;
    try { return await real(url, init); } finally { beats.done += beat; }
  };
`;

let stage: Stage;
beforeAll(async () => void (stage = await Stage.set({}, openWindow)));
afterAll(() => stage?.clear());

test("a hidden tab with throttled timers stays for five minutes", async () => {
  const page = await stage.browser.newPage();
  await page.clock.install();
  await page.addInitScript(COUNT_BEATS);
  await page.goto(`${stage.front.url}/page?user=ann&room=hidden`);
  await sees(page, "ann");

  // A tab in front of it hides it.
  await (await stage.browser.newPage()).bringToFront();
  await fact(() => page.evaluate("document.visibilityState")).toBe("hidden");
  await fact(async () => (await stage.rows("select visible from headcount.presence"))[0].visible).toBe(false);

  const before = await page.evaluate<number>("beats.begun");
  for (let minute = 1; minute <= MINUTES; minute++) {
    await stage.rows("update headcount.presence set last_seen = last_seen - interval '60 s'");
    await stage.sweptAfter(0); // what has run out by now is gone
    await page.clock.fastForward(60_000); // every timer that is due fires once
    await fact(() => page.evaluate("beats.begun === beats.done")).toBe(true);
  }
  expect(await page.evaluate<number>("beats.begun")).toBeGreaterThan(before);
  expect(await stage.sessions("hidden")).toBe(1);
  expect((await stage.log("hidden")).filter((event) => !event.startsWith("updated"))).toEqual(["joined ann"]);
});
