// What a page shows of names that are scripts: text, and nothing else.

import type { BrowserContext, Page } from "playwright-core";
import { expect } from "vitest";

/** A page that tells when something ran, or when its policy had to stop something. */
export async function open(browser: BrowserContext, url: string): Promise<Page> {
  const page = await browser.newPage();
  page.on("dialog", (dialog) => void dialog.dismiss());
  await page.addInitScript(`
    window.blocked = [];
    addEventListener("securitypolicyviolation", (event) => window.blocked.push(event.violatedDirective + " " + event.blockedURI));
  `);
  await page.goto(url);
  return page;
}

/** Nothing ran, nothing had to be stopped, and there is no element that could only have come from a payload. */
export async function expectOnlyText(page: Page, root: string): Promise<void> {
  const found = await page.evaluate<{ tags: string[]; handlers: string[]; links: string[] }>(`(() => {
    const all = [...${root}.querySelectorAll("*")];
    return {
      tags: [...new Set(all.map(({ localName }) => localName))],
      handlers: all.flatMap((element) => [...element.attributes].map(({ name }) => name)).filter((name) => name.startsWith("on")),
      links: all.flatMap(({ href, src, action, data }) => [href, src, action, data]).filter((link) => /^(javascript|data:text)/i.test(String(link))),
    };
  })()`);
  const foreign = "svg animate iframe details video audio source marquee object embed math mtext mglyph style base x table";
  expect(found.tags.filter((tag) => foreign.split(" ").includes(tag))).toEqual([]);
  expect(found.handlers).toEqual([]);
  expect(found.links).toEqual([]);
  expect(await page.evaluate("window.ran")).toBeUndefined();
  expect(await page.evaluate("window.blocked")).toEqual([]);
}

export const texts = (page: Page, selector: string, root = "document") =>
  page.evaluate<string[]>(`[...${root}.querySelectorAll("${selector}")].map(({ textContent }) => textContent)`);
