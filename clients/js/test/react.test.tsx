// @vitest-environment happy-dom

import { act, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { headcount, type Client } from "../src/index.js";
import { usePresence, type Presence, type PresenceOptions } from "../src/react.js";
import { Service } from "./service.js";

let service: Service;
let client: Client;
let root: Root;
let seen: Presence;

function Lobby(options: PresenceOptions) {
  seen = usePresence(client, "lobby", options);
  return <p>{seen.members.map(({ name }) => name).join(", ")}</p>;
}
const draw = (options: PresenceOptions = {}) => act(async () => root.render(<StrictMode><Lobby {...options} /></StrictMode>));
const settle = () => act(async () => void (await new Promise((resolve) => setTimeout(resolve, 10))));

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  service = new Service();
  vi.stubGlobal("fetch", service.fetch);
  client = headcount({ token: "h.t1.s" });
  root = createRoot(document.body.appendChild(document.createElement("div")));
});
afterEach(async () => {
  await act(async () => root.unmount());
  document.body.replaceChildren();
  client.close();
  await settle();
  vi.unstubAllGlobals();
});

test("a component draws the members, and again when they change", async () => {
  await draw();
  await vi.waitFor(async () => { await settle(); expect(document.body.textContent).toBe("ME"); });
  service.come("lobby", "ann");
  await vi.waitFor(async () => { await settle(); expect(document.body.textContent).toBe("ME, ANN"); });
  expect(seen).toMatchObject({ count: 2, line: "live" });
});

test("strict mode's second mount emits nothing", async () => {
  await draw({ state: { a: 1 } });
  await vi.waitFor(async () => { await settle(); expect(seen.count).toBe(1); });
  expect(service.room("lobby").log).toHaveLength(1);
  expect(service.made("/leave")).toEqual([]);
  expect(service.made("/presence")).toEqual([]);
});

test("another state is an update, and the last unmount a leave", async () => {
  await draw({ state: { a: 1 } });
  await vi.waitFor(async () => { await settle(); expect(seen.count).toBe(1); });
  await draw({ state: { a: 2 } });
  await vi.waitFor(async () => { await settle(); expect(service.made("/presence")).toMatchObject([{ body: { state: { a: 2 } } }]); });
  await act(async () => root.render(null));
  await vi.waitFor(async () => { await settle(); expect(service.members("lobby")).toEqual([]); });
});

test("it can watch without joining", async () => {
  service.come("lobby", "ann");
  await draw({ join: false });
  await vi.waitFor(async () => { await settle(); expect(document.body.textContent).toBe("ANN"); });
  expect(service.made("/join")).toEqual([]);
});
