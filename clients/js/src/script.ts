// For a script tag: the global `headcount`.

import { headcount } from "./index.js";

Object.assign(globalThis, { headcount });
