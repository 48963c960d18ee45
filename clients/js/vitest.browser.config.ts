import { defineConfig } from "vitest/config";

// One file at a time: each has a browser, a service and a database of its own, and some measure time.
export default defineConfig({
  test: {
    include: process.env.HEADCOUNT_PICTURES ? ["browser/pictures.ts"] : ["browser/**/*.test.ts"],
    globalSetup: "browser/build.ts",
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 60_000,
    // A test that fails sometimes is a bug in it or in what it tests.
    retry: 0,
  },
});
