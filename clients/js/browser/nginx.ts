// nginx in front of the service, with the settings that a test is about and its own defaults for everything else.

import { createServer, type AddressInfo } from "node:net";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { needed, start, stop, temporaryDir, type Ends } from "./processes.js";
import { fact } from "./stage.js";

/** A port that was free a moment ago: nginx cannot be told to take any. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Gives its address. */
export async function nginx(ends: Ends, service: string, settings: string): Promise<string> {
  const dir = temporaryDir(ends);
  chmodSync(dir, 0o755); // its workers are another user
  const port = await freePort();
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`);
  writeFileSync(join(dir, "nginx.conf"), `
    daemon off; pid ${dir}/pid; error_log stderr warn; worker_processes 1;
    events { worker_connections 256; }
    http {
      ${temporary.join(" ")}
      access_log off;
      server { listen 127.0.0.1:${port}; location / { proxy_pass ${service}; ${settings} } }
    }
  `);
  const child = start("TERM", [], [needed("HEADCOUNT_NGINX"), "-c", join(dir, "nginx.conf"), "-p", dir], {});
  child.stdout!.resume();
  child.stderr!.resume();
  ends.add(() => stop(child, "SIGTERM"));
  const url = `http://127.0.0.1:${port}`;
  await fact(() => fetch(`${url}/livez`).then(({ status }) => status, () => 0)).toBe(200);
  return url;
}
