import { expect, test } from "vitest";
import { parser } from "../src/sse.js";

const lines = [
  "retry: 1000", "", "event: diff", 'data: {"a":"x: y"}', "id: e.1", "", ": comment", "", "event:sync", "data:1",
  "data: 2", "foo", "", "data", "", "event: half", "data: cut",
];

test.each(["\n", "\r", "\r\n"])("a stream reads the same wherever its chunks end (%j)", (eol) => {
  const text = lines.join(eol) + eol;
  for (let size = 1; size <= text.length; size++) {
    const got: string[][] = [];
    const parse = parser((event, data) => got.push([event, data]));
    for (let at = 0; at < text.length; at += size) parse(text.slice(at, at + size));
    expect(got).toEqual([["diff", '{"a":"x: y"}'], ["sync", "1\n2"], ["message", ""]]);
  }
});
