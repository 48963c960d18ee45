// Splits an event stream into its events. A chunk may end anywhere, between a CR and its LF too. `id:` is not needed,
// because the data carries the cursor of its room; nor `retry:`, because the library has a backoff of its own.

export function parser(onEvent: (event: string, data: string) => void): (chunk: string) => void {
  let rest = "";
  let event = "";
  let data: string[] = [];
  return (chunk) => {
    rest += chunk;
    for (;;) {
      // A CR at the very end may be half of a line's end: it waits.
      const end = /\r\n|\n|\r(?=[^])/.exec(rest);
      if (!end) return;
      const line = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line)!;
      if (field === "event") event = value;
      if (field === "data") data.push(value);
      if (line) continue;
      if (data.length) onEvent(event || "message", data.join("\n"));
      event = "";
      data = [];
    }
  };
}
