// nginx in front: streams come through its default settings at once, and the test of the line says what others do to them.

import { afterAll, beforeAll, expect, test } from "vitest";
import { diagnose } from "../src/diagnose.js";
import { recipe, token } from "./front.js";
import { nginx } from "./nginx.js";
import { Ends, Postgres, Service } from "./processes.js";

const ends = new Ends();
let service: Service;
beforeAll(async () => {
  const postgres = await Postgres.start(ends);
  service = await Service.serve(ends, postgres.url);
});
afterAll(() => ends.run());

/** Until the first bytes of a room's stream, in milliseconds. */
async function firstByte(url: string): Promise<number> {
  const began = Date.now();
  const abort = new AbortController();
  const headers = { Authorization: `Bearer ${token("ann")}` };
  const response = await fetch(`${url}/v1/rooms/lobby/events`, { headers, signal: abort.signal });
  await response.body!.getReader().read();
  abort.abort();
  return Date.now() - began;
}
const IGNORED = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;";
const GZIP = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;";

test("by its defaults the first event comes within a second, and the line is fine", async () => {
  const url = await nginx(ends, service.url, "");
  expect(await firstByte(url)).toBeLessThan(1000);
  const diagnosis = await diagnose({ url, token: token("ann") });
  expect(diagnosis).toMatchObject({ verdict: "fine" });
  expect(diagnosis.firstMs).toBeLessThan(1000);
});

test("the settings of the recipes do", async () => {
  const settings = recipe("nginx").replace(/^location.*\n/, "").replace(/.*proxy_pass.*\n/, "").replace(/}\s*$/, "");
  const url = await nginx(ends, service.url, settings);
  expect(await firstByte(url)).toBeLessThan(1000);
  expect((await diagnose({ url, token: token("ann"), silenceMs: 0 })).verdict).toBe("fine");
});

test("buffering is found, and switching it off", async () => {
  const verdict = async (settings: string) => {
    const url = await nginx(ends, service.url, settings);
    return (await diagnose({ url, token: token("ann"), silenceMs: 2000 })).verdict;
  };
  // Compression is what makes nginx hold small events back: it waits for more to compress, unless it is told not to buffer.
  expect(await verdict(`${IGNORED} ${GZIP}`)).toBe("buffered");
  expect(await verdict(`proxy_buffering off; proxy_ignore_headers X-Accel-Buffering; ${GZIP}`)).toBe("fine");
  expect(await verdict(GZIP)).toBe("fine"); // it heeds the header
  expect(await verdict(IGNORED)).toBe("fine"); // without compression nginx passes a chunked answer on as it comes
});

test("a cut after 10 s of silence is found", async () => {
  const url = await nginx(ends, service.url, "proxy_read_timeout 10s;");
  const diagnosis = await diagnose({ url, token: token("ann") });
  expect(diagnosis).toMatchObject({ verdict: "cut" });
  expect(diagnosis.endedMs).toBeGreaterThan(10_000);
  expect(diagnosis.endedMs).toBeLessThan(14_000);
});
