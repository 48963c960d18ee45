// The elements' module as browsers load it, fresh.

// @ts-expect-error: not typed
import { modules } from "../build.mjs";

export const setup = (): Promise<void> => modules();
