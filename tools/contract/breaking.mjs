// node breaking.mjs RELEASED NEW: what a client of the released contract would trip over in the new one.
//
// openapi-diff knows paths, bodies, parameters and properties, but not enumerations: a value less is found here.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import openapiDiff from "openapi-diff";
import { downConvert } from "./down-convert.mjs";

const spec = (text) => ({ content: JSON.stringify(downConvert(text)), location: "contract", format: "openapi3" });

function enumerations(text) {
  return Object.entries(JSON.parse(text).components.schemas).filter(([, schema]) => schema.enum);
}

/** Both as text. Gives a line for each break. */
export async function breaks(released, now) {
  const { breakingDifferences = [] } = await openapiDiff.diffSpecs({ sourceSpec: spec(released), destinationSpec: spec(now) });
  const lines = breakingDifferences.map(({ code, sourceSpecEntityDetails, destinationSpecEntityDetails }) => {
    const places = [...sourceSpecEntityDetails, ...destinationSpecEntityDetails].map(({ location }) => location);
    return `${code}: ${[...new Set(places)].join(", ")}`;
  });
  const known = new Map(enumerations(now));
  for (const [name, { enum: values }] of enumerations(released)) {
    for (const value of values) {
      if (known.has(name) && !known.get(name).enum.includes(value)) lines.push(`enum.value.remove: ${name} ${value}`);
    }
  }
  return lines;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [released, now] = process.argv.slice(2);
  if (!existsSync(released)) {
    console.log(`${released} is not there, because nothing is released yet: there is nothing to break.`);
  } else {
    const found = await breaks(readFileSync(released, "utf8"), readFileSync(now, "utf8"));
    found.forEach((line) => console.error(line));
    process.exitCode = found.length ? 1 : 0;
  }
}
