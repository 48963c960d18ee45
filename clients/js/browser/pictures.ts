// Takes the pictures of docs/: make pictures. No test, but it needs what they need.

import { test } from "vitest";
import { Ends, SERVER_KEY, Service } from "./processes.js";
import { fact, openBrowser, Stage } from "./stage.js";

const ROOT = new URL("../../../", import.meta.url).pathname;
/** The README shows these; the others are to be looked at. */
const SHOWN = ["admin-desktop-light", "admin-phone-dark", "demo-desktop-light", "demo-phone-dark"];
const NAMES = [
  "Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Alan Turing", "Donald Knuth", "Radia Perlman",
  "Tony Hoare", "Frances Allen", "Niklaus Wirth", "Margaret Hamilton", "Dennis Ritchie", "Karen Spärck Jones", "Leslie Lamport",
];
const ROOMS = ["lobby", "lobby", "lobby", "kitchen", "kitchen", "team:42", "team:7", "support", "document:quarterly-report"];
const SIZES = { desktop: { width: 1280, height: 1000 }, phone: { width: 390, height: 844 } };
const TRAFFIC_S = 125;

const path = (name: string) => `${ROOT}${SHOWN.includes(name) ? "docs" : "target/pictures"}/${name}.png`;
const id = (name: string) => name.split(" ").at(-1)!.toLowerCase();
const any = <T>(of: T[]): T => of[Math.floor(Math.random() * of.length)];

/** People come and go, now more and now fewer of them. */
async function traffic(service: Service, seconds: number): Promise<void> {
  const guests: [string, string, string][] = [];
  const begin = Date.now();
  for (let n = 0; Date.now() - begin < seconds * 1000; n++) {
    const wave = 1 + Math.sin((Date.now() - begin) / 9000);
    const [user, room, session] = [`guest-${n}`, any(ROOMS), crypto.randomUUID()];
    await service.call("POST", `/v1/rooms/${room}/join`, { user, session });
    guests.push([user, room, session]);
    while (guests.length > 60 * wave + 20) {
      const [user, room, session] = guests.shift()!;
      await service.call("POST", `/v1/rooms/${room}/leave`, { user, session });
    }
    await new Promise((resolve) => setTimeout(resolve, 25 + 250 / (1 + 4 * wave)));
  }
}

test("the operators' page", { timeout: 300_000 }, async () => {
  const stage = await Stage.set();
  const ends = new Ends();
  try {
    await Service.serve(ends, stage.postgres.url);
    await stage.service.call("PUT", "/v1/users", NAMES.map((name) => ({ id: id(name), name })));
    await traffic(stage.service, TRAFFIC_S);
    for (const name of NAMES) for (const room of new Set([any(ROOMS), any(ROOMS)])) await stage.join(id(name), room);
    for (const colorScheme of ["light", "dark"] as const) {
      for (const [size, viewport] of Object.entries(SIZES)) {
        const page = await stage.browser.newPage();
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize(viewport);
        await page.goto(`${stage.service.url}/admin`);
        await page.fill("#key", SERVER_KEY);
        await page.click("#in button");
        await page.fill("#search", "li");
        await page.click("#look button");
        await fact(() => page.locator("#people li").count()).toBeGreaterThan(0);
        await fact(() => page.locator("#replicas tr").count()).toBe(2);
        await page.mouse.move(0, 0);
        await page.evaluate("document.activeElement.blur()");
        await page.screenshot({ path: path(`admin-${size}-${colorScheme}`), fullPage: true });
        await page.close();
      }
    }
  } finally {
    await ends.run();
    await stage.clear();
  }
});

test("the demo page", { timeout: 120_000 }, async () => {
  const ends = new Ends();
  try {
    const { service } = await Service.dev(ends);
    const browser = await openBrowser(ends);
    await service.call("PUT", "/v1/users/perlman", { name: "Radia Perlman" });
    for (const [n, name] of NAMES.slice(0, 6).entries()) {
      const user = id(name);
      await service.call("PUT", `/v1/users/${user}`, { name });
      const own = { state: n === 1 ? { typing: true } : {}, status: n === 3 ? "dnd" : n === 4 ? "idle" : "online" };
      for (let tab = 0; tab < (n === 2 ? 2 : 1); tab++) {
        await service.call("POST", "/v1/rooms/lobby/join", { user, session: crypto.randomUUID(), ...own });
      }
    }
    for (const colorScheme of ["light", "dark"] as const) {
      for (const [size, viewport] of Object.entries({ ...SIZES, desktop: { width: 800, height: 760 } })) {
        const page = await browser.newPage();
        const guest = { user: "perlman", session: crypto.randomUUID() };
        await service.call("POST", "/v1/rooms/lobby/join", guest);
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize(viewport);
        await page.goto(`${service.url}/?${new URLSearchParams({ user: "ann", name: "Ann", room: "lobby" })}`);
        await fact(() => page.locator("#members li").count()).toBe(8);
        await service.call("POST", "/v1/rooms/lobby/leave", guest);
        await fact(() => page.locator("#gone li").count()).toBe(1);
        await page.click("summary");
        await page.mouse.move(0, 0);
        await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)");
        await page.screenshot({ path: path(`demo-${size}-${colorScheme}`) });
        await page.close();
      }
    }
  } finally {
    await ends.run();
  }
});
