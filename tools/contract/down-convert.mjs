// The document as OpenAPI 3.0, for tools that know no 3.1. `node down-convert.mjs FILE` writes it to standard output.
//
// What 3.1 says by a type `null` is `nullable` in 3.0, and a list of `examples` of a schema is one `example`. The query parameter `last_event_id` is left out: it does what the
// header `Last-Event-ID` does, for those who can send none, and in Rust both would be one name.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const isNull = (schema) => schema?.type === "null";

function convert(node) {
  if (Array.isArray(node)) return node.map(convert);
  if (node === null || typeof node !== "object") return node;
  const made = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, convert(value)]));
  if (Array.isArray(made.type)) {
    const types = made.type.filter((type) => type !== "null");
    if (types.length !== 1) throw new Error(`no type of 3.0 for ${made.type}`);
    if (types.length < made.type.length) made.nullable = true;
    made.type = types[0];
  }
  if (Array.isArray(made.examples)) {
    [made.example] = made.examples;
    delete made.examples;
  }
  if (made.oneOf?.some(isNull)) {
    const { oneOf, ...rest } = made;
    return { ...rest, nullable: true, allOf: oneOf.filter((schema) => !isNull(schema)).map(bare) };
  }
  return "$ref" in made ? bare(made) : made;
}

/** In 3.0 nothing may stand beside a `$ref`. */
const bare = (schema) => ("$ref" in schema ? { $ref: schema.$ref } : schema);

export function downConvert(text) {
  const document = convert(JSON.parse(text));
  document.openapi = "3.0.3";
  delete document.webhooks; // 3.0 has none
  delete document.info.license.identifier;
  for (const path of Object.values(document.paths)) {
    for (const operation of Object.values(path)) {
      operation.parameters = operation.parameters?.filter(({ name }) => name !== "last_event_id");
      // The form for closing pages is JSON too.
      delete operation.requestBody?.content["text/plain"];
    }
  }
  return document;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(downConvert(readFileSync(process.argv[2], "utf8")), null, 2));
}
