// How the library is built: modules for bundlers, and one file for a script tag.

import { readFileSync } from "node:fs";
import { build } from "vite";

const { version } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
const here = (path) => new URL(path, import.meta.url).pathname;
const common = { root: here("."), configFile: false, logLevel: "warn" };

/** The script bundle's text. The service serves it as /headcount.js from a committed copy, because cargo builds without Node. */
export async function script() {
  const output = await build({
    ...common,
    build: {
      write: false,
      target: "es2022",
      minify: true,
      lib: { entry: here("src/script.ts"), formats: ["iife"], name: "script" },
    },
  });
  const { code } = [output].flat()[0].output[0];
  return `/*! headcount ${version} | MIT OR Apache-2.0 */\n${code.trim()}\n`;
}

export async function modules() {
  await build({
    ...common,
    build: {
      outDir: here("dist"),
      target: "es2022",
      minify: false,
      lib: {
        entry: Object.fromEntries(["index", "elements", "react", "diagnose"].map((name) => [name, here(`src/${name}.ts`)])),
        formats: ["es"],
      },
      rolldownOptions: { external: ["react"] },
    },
  });
}
