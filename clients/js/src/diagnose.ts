// diagnose({ url, token }): what stands between here and the service. In a browser, or in Node behind the same proxy.

import { parser } from "./sse.js";

export interface Diagnosis {
  /** `buffered`: something holds events back. `cut`: something closes a connection that is silent for a while. */
  verdict: "fine" | "buffered" | "cut";
  /** Until the first event, in milliseconds. */
  firstMs: number;
  /** From the first to the last of five events that are sent within `sentMs`. */
  arrivedMs: number;
  sentMs: number;
  /** Until the stream ended, in milliseconds. */
  endedMs: number;
}

/** Less of the time that sending took than this, and the events were held back. Half would do; networks are uneven. */
const HELD_BACK = 0.5;

/** Takes 17 s, because streams are silent for 15. `silenceMs` tries another silence. Rejects if the service refuses. */
export async function diagnose(options: { url?: string; token: string; silenceMs?: number }): Promise<Diagnosis> {
  const { url = "", token, silenceMs } = options;
  const query = silenceMs === undefined ? "" : `?silence_ms=${silenceMs}`;
  const began = Date.now();
  const since = () => Date.now() - began;
  const response = await fetch(`${url}/v1/diagnostics/stream${query}`, {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store",
  });
  if (!response.ok) throw new Error(`the service answered ${response.status}`);

  const ticks: { at: number; sent: number }[] = [];
  let whole = false;
  const parse = parser((event, data) => {
    if (event === "end") whole = true;
    else ticks.push({ at: since(), sent: JSON.parse(data).sent_ms });
  });
  try {
    const reader = response.body!.getReader();
    const text = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parse(text.decode(value, { stream: true }));
    }
  } catch {
    // Cut: the stream ended without its end.
  }
  const first = ticks[0] ?? { at: Infinity, sent: 0 };
  const last = ticks.at(-1) ?? first;
  const [arrivedMs, sentMs] = [ticks.length ? last.at - first.at : 0, last.sent - first.sent];
  const verdict = !whole ? "cut" : arrivedMs < sentMs * HELD_BACK ? "buffered" : "fine";
  return { verdict, firstMs: first.at, arrivedMs, sentMs, endedMs: since() };
}
