// @vitest-environment happy-dom

import { beforeAll, beforeEach, expect, test, vi } from "vitest";
import { define } from "../src/elements.js";
import type { Change, Client, Member } from "../src/index.js";
import { member } from "./frames.js";

let tell: (change: Partial<Change>) => void;
const leave = vi.fn();
const client = {
  join: vi.fn(open),
  watch: vi.fn(open),
} as unknown as Client & Record<"join" | "watch", ReturnType<typeof vi.fn>>;

function open() {
  return {
    members: [], count: 0, leave,
    on(_: string, listener: (change: Change) => void) {
      tell = (change) => listener({ members: [], count: change.members?.length ?? 0, joined: [], updated: [], left: [], ...change });
    },
  };
}

function show(html: string): ShadowRoot {
  document.body.innerHTML = html;
  return document.body.firstElementChild!.shadowRoot!;
}
const part = (root: ShadowRoot, name: string) => [...root.querySelectorAll(`[part~=${name}]`)];
const texts = (root: ShadowRoot, name: string) => part(root, name).map(({ textContent }) => textContent);
const evil = '<img src=x onerror="alert(1)"><script>alert(1)</script>';

beforeAll(() => define(client));
beforeEach(() => {
  document.body.innerHTML = "";
  vi.clearAllMocks();
});

test("the list shows names, status and count", () => {
  const root = show('<headcount-list room="lobby"></headcount-list>');
  tell({ members: [member("bob", { status: "dnd" }), member("ann")] });
  expect(texts(root, "name")).toEqual(["ANN", "BOB"]);
  expect(texts(root, "count")).toEqual(["2 here"]);
  expect(part(root, "dot").map((dot) => dot.getAttribute("aria-label"))).toEqual(["online", "do not disturb"]);
  expect(part(root, "dnd")).toHaveLength(1);
  expect(root.querySelector("ul")!.getAttribute("aria-label")).toBe("Who is in lobby");
});

test("script in a name or an address stays text", () => {
  for (const kind of ["list", "avatars"]) {
    const root = show(`<headcount-${kind} room="lobby"></headcount-${kind}>`);
    const one = member("x", { name: evil, avatar_url: "javascript:alert(1)" });
    tell({ members: [one], joined: [one] });
    expect(root.querySelector("script, img")).toBeNull();
    if (kind === "list") expect(texts(root, "name")).toEqual([evil]);
    else expect(root.querySelector("li")!.getAttribute("aria-label")).toBe(`${evil}, online`);
    expect(texts(root, "news")).toEqual([`${evil} joined. 1 here`]);
  }
});

test("who comes and goes is announced, a few by name", () => {
  const root = show('<headcount-list room="lobby"></headcount-list>');
  const [news] = part(root, "news");
  expect(news.getAttribute("role")).toBe("status");
  tell({ members: [member("ann")] });
  expect(news.textContent).toBe("");
  const joined: Member[] = ["a", "b", "c", "d"].map((id) => member(id));
  tell({ members: joined, joined, left: [{ id: "ann", name: "Ann", reason: "left" }] });
  expect(news.textContent).toBe("A, B, C joined. Ann left. 4 here");
});

test("avatars show pictures or initials, and how many more there are", () => {
  const root = show('<headcount-avatars room="lobby" max="2"></headcount-avatars>');
  const members = [
    member("a", { name: "Ada Lovelace" }), member("b", { name: "Bob", avatar_url: "https://example.org/b.png" }), member("c"),
  ];
  tell({ members, count: 1500 });
  expect(texts(root, "avatar")).toEqual(["AL", "", "+1498"]);
  const [image] = root.querySelectorAll("img");
  expect(image.getAttribute("src")).toBe("https://example.org/b.png");
  image.dispatchEvent(new Event("error"));
  expect(texts(root, "avatar")).toEqual(["AL", "B", "+1498"]);
});

test("elements watch, or join if told so, and follow their room", () => {
  show('<headcount-list room="lobby"></headcount-list>');
  expect(client.watch).toHaveBeenCalledWith("lobby");
  document.body.firstElementChild!.setAttribute("room", "kitchen");
  expect(client.watch).toHaveBeenLastCalledWith("kitchen");
  document.body.firstElementChild!.setAttribute("join", "");
  expect(client.join).toHaveBeenCalledWith("kitchen");
  expect(leave).toHaveBeenCalledTimes(2);
  document.body.innerHTML = "";
  expect(leave).toHaveBeenCalledTimes(3);
});
