//! headcount: the presence of users in rooms, right now.
//!
//! A presence service. Clients send heartbeats over plain HTTP; watchers of a room get every change within
//! milliseconds. Postgres is the only other moving part, and the only place where replicas meet.
//!
//! # Layers
//!
//! Each knows only those below it (`tests/tidy.rs` enforces the arrows):
//!
//! ```text
//!    main, app            compose: start order, stop order
//!       |
//!      http               routes, which caller may do what, error codes, streams, pages; no SQL
//!      |      \
//!    commands   hub       commands: one verb each, through the batching writer; hub: this replica's rooms and watchers
//!      |      /
//!      store              the SQL that the service sends, a file per subject; the embedded Postgres
//!       |
//!     domain              ids, member, roster, event, cursor, resume plan, lease; no async, no I/O, no clock
//! ```
//!
//! Beside them: `tasks` (sweeper, trimmer, idle, listener, settings of rooms, webhooks, gauges) runs beside `http`, whether or
//! not a request comes. `auth` (keys, tokens, tickets, rights), `webhooks` (signing, sending), `measure` (every metric) and
//! `settings` (a replica's; it names types of `auth` and `commands`) are beside `domain`; `logs` starts logs and traces, `systemd` tells the supervisor. `cli` is beside
//! `app`: the verbs that ask a running service over HTTP, as any client does, and `doctor`.
//!
//! The rules of presence are SQL, so that an application can change presence in its own transaction: the state is in
//! `migrations/`, the functions in `migrations/functions/`. The README there has the steps of a write and the lock order.
//!
//! # Routes
//!
//! In `http` every request passes `src/http/server/` (connections, TLS, limits by address, the log line), then
//! `src/http/routes.rs`, which finds the handler. Body and caller are read by `src/http/request/` before the handler runs; the
//! handler itself asks for rights and for the limits by user and session (`src/http/request/limits.rs`).
//!
//! A **join** is acknowledged after its commit, and is in every stream soon after:
//!
//! 1. `src/http/api/join.rs`: rights and sizes; makes a command.
//! 2. `src/commands/join.rs`, `src/commands/writer.rs`: queued, and batched with the commands that came while the last
//!    transaction ran; `src/commands/schedule.rs` picks batches that share no room and no user.
//! 3. `src/store/commands.rs`: one statement for the batch.
//! 4. `migrations/functions/apply.sql`: the order of the steps: lock users, then rooms; decide; carry out; log one event per
//!    change; notify. The rows of `presence` and `memberships` are written in `carry_out.sql`, those of `events` in `log.sql`.
//! 5. After the commit the hub gets a hint, and then the caller its answer. Other replicas get their hint in
//!    `src/tasks/listener.rs`, or notice the change by the poll of their feed, within 2 s.
//! 6. `src/hub/feed.rs`: reads the log of the rooms that are due (`src/store/events.rs`), folds it into the roster
//!    (`src/hub/room.rs`, `src/domain/roster.rs`), coalesces, and encodes each frame once (`src/hub/frame.rs`).
//! 7. `src/hub/fan.rs`: each worker thread's ring of frames, read by the streams of `src/http/streams/`, on sockets of
//!    `src/http/server/socket.rs`.
//!
//! A **heartbeat** renews a lease, and touches one row of one table:
//!
//! 1. `src/http/api/heartbeats.rs`: one or up to 100 sessions.
//! 2. `src/commands/heartbeat.rs`, `src/commands/heartbeat_batcher.rs`: batched.
//! 3. `src/store/heartbeats.rs`, `migrations/functions/heartbeat.sql`: one update, answered after its commit. It creates no
//!    session, so there is no resurrection.
//! 4. A session whose activity changed what others see goes to `src/tasks/idle.rs`, which updates the rosters apart.
//!
//! A **sweep** removes sessions whose lease ran out, and completes leaves whose grace is over:
//!
//! 1. `src/tasks/sweeper.rs`: every second, on every replica; one that finds another at work goes away.
//! 2. `src/store/sweep.rs`, `migrations/functions/sweep.sql`: looks at each lease again under its locks, so that a late heartbeat
//!    wins; after an outage nobody expires for one lease.
//! 3. `migrations/functions/log.sql`: logs a `left` for each member gone, and notifies.
//! 4. Every replica, this one too, gets the hint by its listener or notices the change by its poll; then as from step 6 of a join.
//!
//! A **resume** opens a stream where another ended:
//!
//! 1. `src/http/streams/events.rs`: rights, a place among the streams, the cursors in `Last-Event-ID` (`src/domain/cursor.rs`).
//! 2. `src/hub/fan.rs`, `src/hub/feed.rs`: registers the watcher before the log is read, so that no event falls between.
//! 3. `src/domain/resume.rs`: from both cursors, either nothing to send, a replay of what was missed, or a snapshot
//!    with its reason.
//! 4. `src/hub/room.rs`: the frames of a watcher that is not up to date. `src/http/streams/stream.rs` sends them, or a `sync`
//!    immediately to one that is; then as from step 6 of a join.
//!
//! A **webhook** is told of events at least once, in order in each room:
//!
//! 1. `src/http/api/webhooks/`, `src/commands/webhook.rs`, `src/store/webhooks.rs`: made, changed, removed.
//! 2. `migrations/functions/log.sql`, `webhooks.sql`: a write notes in an outbox which rooms moved, while a webhook is enabled.
//! 3. `src/tasks/webhooks.rs`: a replica claims a webhook by a lease of 5 s, and delivers while there is more.
//! 4. `src/store/deliveries.rs`, `src/domain/notice/`: the events that are due become notices: what a delay takes back, where a
//!    gap is announced. The batch is stored before it is sent, so a retry sends the same bytes.
//! 5. `src/webhooks/mod.rs`: one `POST`, to an address that `src/webhooks/endpoint.rs` allows, signed by `src/webhooks/sign.rs`.
//!    `src/tasks/webhooks.rs` decides on the retry and its backoff (`src/domain/webhook.rs`).
//!
//! # Where the design is refined
//!
//! - **Versions go on across epochs.** A new epoch says "what you know may be void"; it does not restart the
//!   version, so a room's log is one contiguous sequence whatever happened to the database.
//! - **Users are locked before rooms.** A profile change must reach every room of the user; locking the user first
//!   keeps the set of those rooms from growing meanwhile.
//! - **Departures.** A table of which session left which room remembers seqs and owners after a session is gone, as long as
//!   the log.

pub mod app;
pub mod auth;
pub mod cli;
pub mod commands;
pub mod domain;
pub mod http;
pub mod hub;
pub mod logs;
pub mod measure;
pub mod settings;
pub mod store;
pub mod systemd;
pub mod tasks;
pub mod webhooks;
