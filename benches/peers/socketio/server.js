// Socket.IO with its Postgres adapter, as headcount's benches measure it: node server.js PORT
//
// POST /publish?first=N&count=M  tells every watcher M messages of 200 bytes, N and following
// POST /join?user=N              a user becomes present: a row in Postgres, then everybody is told
//
// What is sent from this process goes to its own sockets directly and to those of others through the adapter.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/postgres-adapter";
import pg from "pg";
import { Server } from "socket.io";

const pool = new pg.Pool({ max: 8 });
await pool.query(`
  create table if not exists socket_io_attachments
    (id bigserial unique, created_at timestamptz default now(), payload bytea);
  create table if not exists socket_io_presence
    (room_id text, user_id text, joined_at timestamptz default now(), primary key (room_id, user_id));
`);

const mark = (number) => `mk~${String(number).padStart(8, "0")}`;
const message = (number) => ({ id: mark(number), text: "x".repeat(166) });

const http = createServer(async (request, response) => {
  const url = new URL(request.url, "http://bench");
  request.resume();
  const number = (name) => Number(url.searchParams.get(name));
  try {
    if (url.pathname === "/publish") {
      const first = number("first");
      for (let n = first; n < first + number("count"); n += 1) io.emit("m", message(n));
    } else if (url.pathname === "/join") {
      const id = mark(number("user"));
      await pool.query("insert into socket_io_presence (room_id, user_id) values ('fan', $1) on conflict do nothing", [id]);
      io.emit("joined", { id, name: "Somebody", avatar_url: null, status: "online", text: "x".repeat(110) });
    }
    response.end("{}");
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    response.end("{}");
  }
});

// A ping interval longer than any figure, and no compression: what is compared is the fan-out.
const io = new Server(http, { pingInterval: 600000, pingTimeout: 600000, perMessageDeflate: false, transports: ["websocket"] });
io.adapter(createAdapter(pool, { errorHandler: (error) => console.error(error) }));
http.keepAliveTimeout = 600000;
http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
