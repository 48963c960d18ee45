// Names, pictures and states that are scripts stay text, in every page of ours.

import type { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Front } from "./front.js";
import { PAYLOADS, PICTURES } from "./payloads.js";
import { connect, Ends, Service } from "./processes.js";
import { fact, openBrowser } from "./stage.js";
import { expectOnlyText, open, texts } from "./text.js";

const ends = new Ends();
let service: Service;
let front: Front;
let database: Client;
let browser: Awaited<ReturnType<typeof openBrowser>>;
/** By user: what they call themselves. */
const names = new Map(PAYLOADS.map((name, n) => [`user-${n}`, name]));

beforeAll(async () => {
  const dev = await Service.dev(ends);
  service = dev.service;
  front = await Front.start(ends, service);
  database = await connect(dev.socket, "headcount");
  ends.add(() => database.end());
  browser = await openBrowser(ends);

  const users = [...names].map(([id, name]) => ({ id, name }));
  await service.call("PUT", "/v1/users", users);
  // Past the rules, which refuse such pictures: rows may be older than the rules.
  await database.query("alter table headcount.users disable trigger check_user");
  for (const [n, picture] of PICTURES.entries()) {
    await database.query("update headcount.users set avatar_url = $1 where user_id = $2", [picture, `user-${n}`]);
  }
  await database.query("alter table headcount.users enable trigger check_user");
  for (const { id, name } of users) {
    const state = { typing: name, [name]: name, text: [name] };
    await service.call("POST", "/v1/rooms/lobby/join", { user: id, session: crypto.randomUUID(), state });
  }
});
afterAll(() => ends.run());

test("there are at least thirty of them", () => {
  expect(new Set(PAYLOADS).size).toBeGreaterThanOrEqual(30);
});

test("in the demo page", async () => {
  const hostile = PAYLOADS[3];
  const page = await open(browser, `${service.url}/?${new URLSearchParams({ user: hostile, name: hostile, room: "lobby" })}`);
  const everybody = [...names.values(), hostile].sort();
  await fact(async () => (await texts(page, "#members .name")).sort()).toEqual(everybody);
  const guest = { user: "user-0", session: crypto.randomUUID() };
  await service.call("POST", "/v1/rooms/lobby/kick", { user: guest.user });
  await fact(() => texts(page, "#gone bdi")).toEqual([PAYLOADS[0]]);
  await expectOnlyText(page, "document.getElementById('gone')");
  await service.call("POST", "/v1/rooms/lobby/join", guest);
  await fact(() => texts(page, "#gone bdi")).toEqual([]);
  await page.click("summary"); // the raw frames
  await fact(() => texts(page, "#frames pre").then((frames) => frames.some((frame) => frame.includes("<script>")))).toBe(true);
  await expectOnlyText(page, "document.getElementById('members')");
  await expectOnlyText(page, "document.getElementById('frames')");
  await page.click("#leave");
  await fact(() => page.isVisible("#join")).toBe(true);
  await page.close();
});

test("in the elements", async () => {
  const page = await open(browser, `${front.url}/elements?user=eve&room=lobby`);
  const list = "document.querySelector('headcount-list').shadowRoot";
  const avatars = "document.querySelector('headcount-avatars').shadowRoot";
  await fact(async () => (await texts(page, "[part~=name]", list)).sort()).toEqual([...names.values()].sort());
  const titles = `[...${avatars}.querySelectorAll("li")].map(({ title }) => title).sort()`;
  await fact(() => page.evaluate(titles)).toEqual([...names.values()].sort());

  // Comings and goings are read out.
  await service.call("POST", "/v1/rooms/lobby/kick", { user: "user-0" });
  await fact(() => texts(page, "[role=status]", list).then(([news]) => news.includes(PAYLOADS[0]))).toBe(true);
  for (const root of [list, avatars]) await expectOnlyText(page, root);
  await service.call("POST", "/v1/rooms/lobby/join", { user: "user-0", session: crypto.randomUUID() });
});
