import { afterEach, expect, test, vi } from "vitest";
import { diagnose } from "../src/diagnose.js";

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** What arrives, and after how many milliseconds. */
function arriving(...chunks: [number, string][]) {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", async () => {
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      start(control) {
        for (const [at, text] of chunks) setTimeout(() => control.enqueue(encoder.encode(text)), at);
        setTimeout(() => control.close(), chunks.at(-1)![0] + 1);
      },
    });
    return new Response(body);
  });
  const diagnosis = diagnose({ token: "t" });
  return vi.runAllTimersAsync().then(() => diagnosis);
}
const tick = (n: number) => `event: tick\ndata: {"n":${n},"sent_ms":${250 * n}}\n\n`;
const end = 'event: end\ndata: {"n":5,"sent_ms":17000}\n\n';
const ticks = [0, 1, 2, 3, 4].map((n): [number, string] => [20 + 250 * n, tick(n)]);
const together = ticks.map(([, text]) => text).join("");

test("what comes as it was sent is fine", async () => {
  const diagnosis = await arriving(...ticks, [17_020, end]);
  expect(diagnosis).toMatchObject({ verdict: "fine", firstMs: 20, arrivedMs: 1000, sentMs: 1000 });
});

test("what comes all at once was buffered, at the end or before", async () => {
  expect((await arriving([17_020, together + end])).verdict).toBe("buffered");
  expect((await arriving([1100, together], [17_020, end])).verdict).toBe("buffered");
});

test("what ends without its end was cut", async () => {
  expect(await arriving(...ticks, [11_000, ""])).toMatchObject({ verdict: "cut", endedMs: 11_001 });
  expect((await arriving([10_000, ""])).verdict).toBe("cut");
});
