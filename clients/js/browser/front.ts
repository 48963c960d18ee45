// What stands between browser and service: it serves the test pages, passes everything else on over HTTP/1.1, and
// misbehaves when told to, as proxies do.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { JWT_SECRET, type Ends, type Service } from "./processes.js";

const here = (path: string) => new URL(path, import.meta.url);
const FILES: Record<string, [string, URL]> = {
  "/page": ["text/html", here("page.html")],
  "/page.js": ["text/javascript", here("page.js")],
  "/elements": ["text/html", here("elements.html")],
  "/elements-page.js": ["text/javascript", here("elements.js")],
  "/elements.js": ["text/javascript", here("../dist/elements.js")],
};

/** The first example of docs/recipes.md in this language. */
export function recipe(language: string): string {
  const text = readFileSync(here("../../../docs/recipes.md"), "utf8");
  return new RegExp("```" + language + "\\n(.*?)```", "s").exec(text)![1];
}

export function token(user: string, seconds = 3600): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: user, name: user, rooms: ["*"], exp: Math.floor(Date.now() / 1000) + seconds };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", JWT_SECRET).update(signed).digest("base64url")}`;
}

export class Front {
  /** Event streams that are open now, and how many were ever opened. */
  readonly streams = new Set<ServerResponse>();
  opened = 0;
  /** Answers 502 instead of passing on, and how often it did. */
  bad = false;
  refused = 0;
  /** How long its tokens are good for. */
  tokenSeconds = 3600;
  private constructor(private readonly server: Server, private readonly service: Service) {}

  static async start(ends: Ends, service: Service): Promise<Front> {
    const server = createServer((question, answer) => front.answer(question, answer));
    const front = new Front(server, service);
    server.keepAliveTimeout = 60_000;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ends.add(() => {
      server.closeAllConnections();
      server.close();
    });
    return front;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
  /** Open streams stay open and say nothing more, as when a link dies without a word. */
  mute(): void {
    for (const stream of this.streams) stream.write = () => true;
  }

  /** Open streams are cut. */
  cut(): void {
    for (const stream of this.streams) stream.destroy();
  }

  private answer(question: IncomingMessage, answer: ServerResponse): void {
    const { pathname, searchParams } = new URL(question.url!, "http://front");
    const file = FILES[pathname];
    if (file) {
      // No `no-store`: a page with that is never kept for a return.
      answer.writeHead(200, { "Content-Type": `${file[0]}; charset=utf-8` }).end(readFileSync(file[1]));
    } else if (pathname === "/recipe") {
      const page = recipe("html").replaceAll("https://presence.example.org", "");
      answer.writeHead(200, { "Content-Type": "text/html" }).end(page);
    } else if (pathname === "/presence-token") {
      answer.writeHead(200, { "Content-Type": "text/plain" }).end(token("ann"));
    } else if (pathname === "/elsewhere") {
      answer.writeHead(200, { "Content-Type": "text/html" }).end("<title>elsewhere</title>");
    } else if (pathname === "/token") {
      answer.writeHead(200, { "Content-Type": "text/plain" }).end(token(searchParams.get("user")!, this.tokenSeconds));
    } else if (this.bad) {
      this.refused++;
      answer.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway</h1>");
    } else this.pass(question, answer, pathname.endsWith("/events"));
  }

  private pass(question: IncomingMessage, answer: ServerResponse, stream: boolean): void {
    const { method, headers, url } = question;
    const behind = request(this.service.url + url, { method, headers }, (reply) => {
      answer.writeHead(reply.statusCode!, reply.headers);
      answer.flushHeaders();
      if (stream && reply.statusCode === 200) {
        this.streams.add(answer);
        this.opened++;
        answer.on("close", () => this.streams.delete(answer));
      }
      reply.on("data", (chunk) => answer.write(chunk));
      reply.on("end", () => answer.end());
      reply.on("error", () => answer.destroy());
    });
    behind.on("error", () => {
      if (answer.headersSent) answer.destroy();
      else answer.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway</h1>");
    });
    answer.on("close", () => behind.destroy());
    question.pipe(behind);
  }
}
