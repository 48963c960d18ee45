// node make.mjs: builds the modules and the script bundle, in dist/ and for the service.

import { writeFileSync } from "node:fs";
import { modules, script } from "./build.mjs";

await modules();
const text = await script();
for (const path of ["dist/headcount.js", "../../src/http/pages/headcount.js"]) writeFileSync(new URL(path, import.meta.url), text);
