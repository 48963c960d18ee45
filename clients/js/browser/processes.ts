// Postgres and the service as processes of their own, ended by process id: when a test is done, when it fails, and by the
// kernel when the run itself is killed.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";

export const JWT_SECRET = "a-secret-of-the-browser-tests-of-32-bytes-and-more";
export const SERVER_KEY = "a-server-key-of-the-browser-tests-of-32-bytes";

/** What is ended last is what was started first: the service before its database. */
export class Ends {
  private readonly works: (() => unknown)[] = [];
  add(work: () => unknown): void {
    this.works.unshift(work);
  }
  async run(): Promise<void> {
    for (const work of this.works.splice(0)) await work();
  }
}

/** A directory that is removed at the end. The removal is retried for about ten seconds: children of a browser may outlive
 *  it for a moment and still write into its profile, which fails a removal with ENOTEMPTY. */
export function temporaryDir(ends: Ends): string {
  const dir = mkdtempSync(join(tmpdir(), "headcount-browser-"));
  ends.add(() => rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  return dir;
}

export function needed(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run make test-browser`);
  return value;
}

/** The child's words are in its pipes. `setpriv` has the kernel end the child when this process ends in any way. */
export function start(signal: string, as: string[], command: string[], env: Record<string, string>): ChildProcess {
  return spawn("setpriv", [...as, `--pdeathsig=${signal}`, "--", ...command], {
    env: { PATH: process.env.PATH, LANG: "C.UTF-8", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

export async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill(signal);
  await ended;
}

/** The line of the output that has this text; fails with all that was said when the process ends before. */
export function said(child: ChildProcess, text: string, output: "stdout" | "stderr"): Promise<string> {
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface(stream).on("line", (line) => {
        if (lines.length < 200) lines.push(line); // keeps reading, so that the process never waits for us
        if (stream === child[output] && line.includes(text)) resolve(line);
      });
    }
    child.once("exit", (code) => reject(new Error(`ended with ${code} before "${text}":\n${lines.join("\n")}`)));
    child.once("error", reject);
  });
}

export class Postgres {
  private child?: ChildProcess;
  private constructor(private readonly dir: string, private readonly as: string[]) {}

  static async start(ends: Ends): Promise<Postgres> {
    const dir = temporaryDir(ends);
    let as: string[] = [];
    if (process.getuid!() === 0) {
      // Postgres refuses to run as root.
      const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"]));
      chownSync(dir, id("-u"), id("-g"));
      as = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    }
    const postgres = new Postgres(dir, as);
    const init = [postgres.program("initdb"), "-D", postgres.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"];
    execFileSync("setpriv", [...as, "--", ...init], { stdio: "pipe", cwd: "/" });
    ends.add(() => postgres.stop());
    await postgres.resume();
    const client = await postgres.connect("postgres");
    await client.query("create database headcount");
    await client.end();
    return postgres;
  }

  private get data(): string {
    return join(this.dir, "data");
  }
  private program(name: string): string {
    return join(needed("HEADCOUNT_POSTGRES_BIN"), name);
  }
  get url(): string {
    return `postgres:///headcount?host=${encodeURIComponent(this.dir)}&user=postgres`;
  }
  async resume(): Promise<void> {
    const settings = ["listen_addresses=", `unix_socket_directories=${this.dir}`, "fsync=off", "max_connections=100"];
    const command = [this.program("postgres"), "-D", this.data, ...settings.flatMap((setting) => ["-c", setting])];
    this.child = start("INT", this.as, command, {});
    await said(this.child, "ready to accept connections", "stderr");
  }
  /** As a restart of the machine's service does it: connections are cut. */
  async stop(): Promise<void> {
    if (this.child) await stop(this.child, "SIGINT");
  }
  connect(database = "headcount"): Promise<pg.Client> {
    return connect(this.dir, database);
  }
}

export async function connect(host: string, database: string): Promise<pg.Client> {
  const client = new pg.Client({ host, database, user: "postgres" });
  client.on("error", () => {}); // it is cut when Postgres is stopped
  await client.connect();
  return client;
}

export class Service {
  private child?: ChildProcess;
  url = "";
  private constructor(private readonly command: string[], private readonly env: Record<string, string>) {}

  /** `headcount serve` on this database. */
  static async serve(ends: Ends, database: string, env: Record<string, string> = {}): Promise<Service> {
    return Service.run(ends, ["serve"], { DATABASE_URL: database, ...env });
  }
  /** `headcount dev`, with its private Postgres and its demo page; and where that Postgres has its socket. */
  static async dev(ends: Ends): Promise<{ service: Service; socket: string }> {
    const dir = temporaryDir(ends);
    const env = { HEADCOUNT_POSTGRES_BIN: needed("HEADCOUNT_POSTGRES_BIN"), HEADCOUNT_DATA_DIR: join(dir, "dev") };
    if (process.getuid!() === 0) execFileSync("chmod", ["755", dir]); // for the user that Postgres runs as
    mkdirSync(env.HEADCOUNT_DATA_DIR);
    const service = await Service.run(ends, ["dev"], env);
    return { service, socket: join(env.HEADCOUNT_DATA_DIR, "run") };
  }

  private static async run(ends: Ends, command: string[], env: Record<string, string>): Promise<Service> {
    const program = needed("HEADCOUNT_BIN");
    if (!existsSync(program)) throw new Error(`${program} is not built: run make test-browser`);
    const keys = { HEADCOUNT_JWT_SECRET: JWT_SECRET, HEADCOUNT_SERVER_KEY: SERVER_KEY };
    const service = new Service([program, ...command], { ...keys, ...env });
    ends.add(() => service.stop("SIGTERM"));
    await service.resume("127.0.0.1:0");
    return service;
  }
  /** At the address where it was, so that clients find it again. */
  async resume(listen = new URL(this.url).host): Promise<void> {
    this.child = start("TERM", [], this.command, { ...this.env, HEADCOUNT_LISTEN: listen });
    this.url = (await said(this.child, "headcount ready on ", "stdout")).split(" ready on ")[1];
  }
  async stop(signal: NodeJS.Signals): Promise<void> {
    if (this.child) await stop(this.child, signal);
  }

  /** A call of an application's server. */
  async call(method: string, path: string, body?: unknown): Promise<any> {
    const headers = { Authorization: `Bearer ${SERVER_KEY}`, "Content-Type": "application/json" };
    const answer = await fetch(this.url + path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}
