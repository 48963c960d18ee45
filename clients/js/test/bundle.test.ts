import { readFileSync } from "node:fs";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
// @ts-expect-error: not typed
import { script } from "../build.mjs";

const SIZE_MAX = 6.5 * 1024;
const served = readFileSync(new URL("../../../src/http/pages/headcount.js", import.meta.url), "utf8");
const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

test("the bundle that the service serves is a fresh build", async () => {
  expect(served === (await script()), "src/http/pages/headcount.js is out of date: run make client").toBe(true);
});

test("the bundle is small", () => {
  const size = gzipSync(served, { level: 9 }).length;
  console.log(`headcount.js: ${size} bytes gzipped, of ${SIZE_MAX}`);
  expect(size).toBeLessThan(SIZE_MAX);
});

test("the bundle defines one global", () => {
  const page: Record<string, unknown> = {};
  runInNewContext(served, page);
  expect(Object.keys(page)).toEqual(["headcount"]);
  expect(page.headcount).toBeTypeOf("function");
});

test("the package has its licences", () => {
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    const text = (path: string) => readFileSync(new URL(path + name, import.meta.url), "utf8");
    expect(text("../")).toBe(text("../../../"));
    expect(manifest.files).toContain(name);
  }
});

test("there are no runtime dependencies", () => {
  expect(manifest.dependencies).toBeUndefined();
});
