// The operators' page, with a room full of people whose names are scripts.

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PAYLOADS } from "./payloads.js";
import { SERVER_KEY } from "./processes.js";
import { fact, Stage } from "./stage.js";
import { expectOnlyText, open, texts } from "./text.js";

let stage: Stage;
let page: Page;

beforeAll(async () => {
  stage = await Stage.set();
  const users = PAYLOADS.map((name, n) => ({ id: `user-${n} ${name}`.slice(0, 128), name }));
  await stage.service.call("PUT", "/v1/users", users);
  for (const { id } of users) await stage.join(id, "lobby");
  await stage.join("bob", "team:1");
  page = await open(stage.browser, `${stage.service.url}/admin`);
});
afterAll(() => stage?.clear());

const text = (selector: string) => page.textContent(selector);

test("nothing is shown without the server key, and a wrong one is not kept", async () => {
  expect(await page.isVisible("#board")).toBe(false);
  await page.fill("#key", "not the key");
  await page.click("#in button");
  await fact(() => text("#refused")).toContain("does not take this key");
  expect(await page.isVisible("#board")).toBe(false);
  expect(await page.evaluate("sessionStorage.length")).toBe(0);
});

test("with it the page shows what is going on, and goes on showing it", async () => {
  await page.fill("#key", SERVER_KEY);
  await page.click("#in button");
  await fact(() => text("#rooms")).toBe("2");
  expect(await text("#members")).toBe(String(PAYLOADS.length + 1));
  expect(await texts(page, "#fullest tr:first-child td")).toEqual(["lobby", String(PAYLOADS.length)]);
  await fact(() => text("#plot-text")).toContain(`${PAYLOADS.length + 1} joined, 0 left`);
  expect(await text("#replicas")).toContain(new URL(stage.service.url).port);
  await fact(() => page.getAttribute("#plot .joined", "d")).not.toBe("");

  await stage.join("cho", "team:1");
  await fact(() => texts(page, "#fullest tr:last-child td")).toEqual(["team:1", "2"]);
  await fact(async () => (await texts(page, "#health .bad")).length).toBe(0);
});

test("a user is found, and kicked by a second click", async () => {
  await page.fill("#search", "bob");
  await page.click("#look button");
  await fact(() => texts(page, "#people .place bdi")).toEqual(["team:1"]);
  const kick = page.locator("#people .kick");
  await kick.click();
  expect(await kick.textContent()).toBe("Really?");
  expect(await stage.log("team:1")).toEqual(["joined bob", "joined cho"]);
  await kick.click();
  await fact(() => texts(page, "#people .place bdi")).toEqual([]);
  expect(await stage.log("team:1")).toEqual(["joined bob", "joined cho", "left bob kicked"]);
});

test("names and ids that are scripts stay text", async () => {
  await page.click("#fullest button");
  await fact(async () => (await texts(page, "#people .name")).sort()).toEqual([...PAYLOADS].sort());
  await page.fill("#search", "<script>");
  await page.click("#look button");
  await fact(() => text("#found")).toContain("Found");
  await expectOnlyText(page, "document.getElementById('people')");
});

test("the key is kept over a reload, and forgotten when told to", async () => {
  await page.reload();
  await fact(() => text("#rooms")).toBe("2");
  expect(await page.evaluate("localStorage.length")).toBe(0);
  await page.click("#out");
  expect(await page.isVisible("#board")).toBe(false);
  expect(await page.evaluate("sessionStorage.length")).toBe(0);
  await page.reload();
  await fact(() => page.isVisible("#in")).toBe(true);
});

test("a service that is away is said, and found again", async () => {
  await page.fill("#key", SERVER_KEY);
  await page.click("#in button");
  await fact(() => text("#rooms")).toBe("2");
  await stage.service.stop("SIGTERM");
  await fact(() => text("#trouble")).toContain("No answer");
  await stage.service.resume();
  await fact(() => text("#trouble")).toBe("");
});
