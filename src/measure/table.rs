//! The table of metrics. The doc comment of a metric is its HELP line and its row in `docs/metrics.md`.
//!
//! Names follow the conventions of Prometheus: base units at the end, `_total` for counters. A metric is added here and
//! recorded through its handle. A test fails for a metric that is missing in the documentation or in a scrape.

use metrics::{Counter, Gauge, Histogram};

use super::meter::{Dynamic, Each, Meter, Metric};

macro_rules! meters {
    ($($(#[doc = $help:literal])+ $field:ident: $meter:ty => $name:literal
        $({$($label:literal: $values:expr),+})?;)*) => {
        /// The handle of each metric.
        pub struct Meters {
            $($(#[doc = $help])+ pub $field: $meter,)*
        }

        impl Meters {
            pub(super) fn register() -> Self {
                Self { $($field: <$meter>::register($name, &[$($(($label, $values)),+)?]),)* }
            }
        }

        /// All metrics.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: <$meter as Meter>::KIND,
            labels: &[$($(($label, $values)),+)?],
            help: concat!($($help),+),
        },)*];
    };
}

/// Values that are too many to list: the program's own, of which there is a fixed number, and names of webhooks, of
/// which there are 20 at most.
const PROGRAMS: &[&str] = &[];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const STATUSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx"];
const LANES: &[&str] = &["main", "aside"];
const OPS: &[&str] = &["join", "leave", "update", "kick"];
const FAILURES: &[&str] = &["unavailable", "outcome_unknown", "busy", "refused", "bug"];
const LIVES: &[&str] = &["alive", "gone"];
const HEARERS: &[&str] = &["own", "listener"];
const MODES: &[&str] = &["diff", "list", "count"];
const BYES: &[&str] = &["drain", "slow", "token_expired", "max_age"];
const READERS: &[&str] = &["feed", "webhooks", "watchlists", "writer"];
const POOLS: &[&str] = &["main", "heartbeats"];
const OUTCOMES: &[&str] = &["accepted", "refused", "timeout", "connection", "gone"];
const TABLES: &[&str] = &["users", "presence", "memberships", "rooms", "events", "departures"];

meters! {
    /// Always 1; its label is the version of the program.
    build_info: Dynamic<Gauge> => "headcount_build_info" {"version": PROGRAMS};

    /// Answers, by route pattern (`unmatched` where there is no such address), method and class of status.
    http_requests: Dynamic<Counter> => "headcount_http_requests_total"
        {"route": PROGRAMS, "method": METHODS, "status": STATUSES};
    /// From the head of a request to the head of its answer. Of a stream: until it begins.
    http_duration: Dynamic<Histogram> => "headcount_http_request_duration_seconds" {"route": PROGRAMS};
    /// Errors told to clients, by their code: limits hit are `too_many_...` and `replica_full`.
    http_problems: Dynamic<Counter> => "headcount_http_problems_total" {"code": PROGRAMS};

    /// Commands that wait for a transaction; `aside` are those whose room somebody else holds. At 4096 one more is
    /// refused.
    writer_queue: Each<Gauge> => "headcount_writer_queue_commands" {"lane": LANES};
    /// Commands in one transaction, at most 500.
    writer_batch: Histogram => "headcount_writer_batch_commands";
    /// A transaction of commands, from taking a connection to the commit.
    writer_duration: Histogram => "headcount_writer_commit_duration_seconds";
    /// Transactions of commands that were committed.
    writer_commits: Counter => "headcount_writer_commits_total";
    /// Transactions of commands that failed, and why.
    writer_failures: Each<Counter> => "headcount_writer_failures_total" {"reason": FAILURES};
    /// Commands carried out.
    commands: Each<Counter> => "headcount_commands_total" {"op": OPS};

    /// Requests with heartbeats that wait for a transaction. At 16384 one more is refused.
    heartbeat_queue: Gauge => "headcount_heartbeat_queue_requests";
    /// Sessions in one transaction of heartbeats.
    heartbeat_batch: Histogram => "headcount_heartbeat_batch_sessions";
    /// A transaction of heartbeats, from taking a connection to the commit.
    heartbeat_duration: Histogram => "headcount_heartbeat_commit_duration_seconds";
    /// Transactions of heartbeats that were committed.
    heartbeat_commits: Counter => "headcount_heartbeat_commits_total";
    /// Transactions of heartbeats that failed, and why.
    heartbeat_failures: Each<Counter> => "headcount_heartbeat_failures_total" {"reason": FAILURES};
    /// Heartbeats answered, by whether the session lives.
    heartbeats: Each<Counter> => "headcount_heartbeats_total" {"state": LIVES};

    /// Whether this replica hears of other replicas' commits: 1 while LISTEN is on a good connection. Without, it finds
    /// them within 2 s.
    listening: Gauge => "headcount_listening";
    /// Times that the listener may have missed something; watched rooms are then read again.
    listener_gaps: Counter => "headcount_listener_gaps_total";
    /// From sending a notification to ourselves, through another connection, to hearing it: every 5 s.
    listener_lag: Histogram => "headcount_listener_lag_seconds";
    /// Notifications heard, of all replicas' commits. Each commit that changes a roster sends one.
    notifications: Counter => "headcount_notifications_received_total";
    /// Rooms that this replica was told to look at: by its `own` commits, or by its `listener`.
    hints: Each<Counter> => "headcount_hints_total" {"source": HEARERS};

    /// Open event streams of rooms.
    watchers: Gauge => "headcount_watchers";
    /// Open watchlists: event streams of users.
    watchlists: Gauge => "headcount_watchlists";
    /// Rooms with a watcher here, whose rosters are held.
    watched_rooms: Gauge => "headcount_watched_rooms";
    /// Event streams opened.
    streams: Counter => "headcount_streams_opened_total";
    /// Event streams ended by us, and why. `slow`: the watcher fell behind what is kept for it, and was cut.
    byes: Each<Counter> => "headcount_byes_total" {"reason": BYES};
    /// Changes of rooms encoded, once for each mode that somebody watches in.
    frames_encoded: Each<Counter> => "headcount_frames_encoded_total" {"mode": MODES};
    /// Pieces of event streams handed to sockets: a frame, or a part of one where a stream has many rooms.
    frames_sent: Counter => "headcount_frames_sent_total";
    /// Bytes of event streams handed to sockets, before TLS.
    stream_bytes: Counter => "headcount_stream_bytes_total";

    /// From when an event was written until its frame was handed to the watchers' threads; the oldest event of a frame,
    /// by the database's clock. Coalescing is in it: 20 ms for small rooms, 1 s for the largest.
    fanout_lag: Histogram => "headcount_fanout_lag_seconds";
    /// One read of the log for all watched rooms that are due.
    feed_duration: Histogram => "headcount_feed_read_duration_seconds";
    /// Reads of the log that failed, and why.
    feed_failures: Each<Counter> => "headcount_feed_read_failures_total" {"reason": FAILURES};
    /// Rows that this build does not understand, and what read them: `feed` of a watched room, whose streams are marked
    /// stale; `webhooks`, told as a gap; `watchlists`; `writer`. A row costs its own room, and no other.
    unreadable: Each<Counter> => "headcount_unreadable_rows_total" {"by": READERS};
    /// Whether watched rooms cannot be read: 1 while rosters and streams are served as they were, marked stale.
    stale: Gauge => "headcount_stale";
    /// Events of watched rooms that are in the log and not in this replica's rosters, the most of any room; of 1000
    /// rooms, every 15 s.
    version_lag: Gauge => "headcount_version_lag_events";

    /// Sweeps by this replica. Another may be at work; then it goes away at once.
    sweeps: Counter => "headcount_sweeps_total";
    /// One sweep.
    sweep_duration: Histogram => "headcount_sweep_duration_seconds";
    /// Sessions whose lease ran out, ended by this replica.
    expired: Counter => "headcount_expired_sessions_total";
    /// Members gone by a sweep of this replica: by expiry, or because the grace of their leave was over.
    departed: Counter => "headcount_departed_members_total";
    /// How long ago the last sweep of any replica ran, by the database's clock; read every 15 s.
    sweep_age: Gauge => "headcount_last_sweep_age_seconds";
    /// Whether the outage rule is in force: 1 while nobody expires, or departures are spread, because sweeps had
    /// stopped; read every 15 s.
    outage_rule: Gauge => "headcount_outage_rule";

    /// Events of the log that a webhook was not told of yet, the outbox included, by the database, every 5 s: the same on
    /// every replica.
    webhook_backlog: Dynamic<Gauge> => "headcount_webhook_backlog_events" {"webhook": PROGRAMS};
    /// How long ago the oldest of them happened.
    webhook_backlog_age: Dynamic<Gauge> => "headcount_webhook_backlog_seconds" {"webhook": PROGRAMS};
    /// Attempts to tell a webhook, by this replica.
    webhook_deliveries: Dynamic<Counter> => "headcount_webhook_deliveries_total"
        {"webhook": PROGRAMS, "outcome": OUTCOMES};
    /// How long attempts to tell a webhook took.
    webhook_duration: Dynamic<Histogram> => "headcount_webhook_delivery_seconds" {"webhook": PROGRAMS};

    /// Database connections open.
    connections: Each<Gauge> => "headcount_database_connections" {"pool": POOLS};
    /// Database connections open that nobody uses.
    connections_idle: Each<Gauge> => "headcount_database_connections_idle" {"pool": POOLS};
    /// Most database connections that the pool may open.
    connections_max: Each<Gauge> => "headcount_database_connections_max" {"pool": POOLS};
    /// Waiting for a database connection, or opening one.
    acquire_duration: Each<Histogram> => "headcount_database_acquire_duration_seconds" {"pool": POOLS};
    /// Database connections not got within 1 s.
    acquire_timeouts: Each<Counter> => "headcount_database_acquire_timeouts_total" {"pool": POOLS};

    /// Rows updated since the statistics of Postgres were reset, of all replicas; read every 15 s, as what follows. A
    /// gauge, because it falls to 0 then.
    table_updates: Each<Gauge> => "headcount_table_updates" {"table": TABLES};
    /// Of those: updates that touched no index (HOT). Their share should be high for `rooms`; `presence` has an index
    /// that each heartbeat changes.
    table_hot_updates: Each<Gauge> => "headcount_table_hot_updates" {"table": TABLES};
    /// Live rows, as Postgres estimates them.
    table_rows: Each<Gauge> => "headcount_table_rows" {"table": TABLES};
    /// Dead rows that a vacuum has not removed yet, as Postgres estimates them.
    table_dead_rows: Each<Gauge> => "headcount_table_dead_rows" {"table": TABLES};
    /// Bytes on disk, with indexes.
    table_bytes: Each<Gauge> => "headcount_table_size_bytes" {"table": TABLES};
    /// When those figures were last read, by this machine's clock, in seconds since 1970; 0 before the first time.
    figures_at: Gauge => "headcount_figures_timestamp_seconds";

    /// Resident memory of the process.
    memory: Gauge => "headcount_process_memory_bytes";
    /// File descriptors in use; each stream and connection needs one.
    descriptors: Gauge => "headcount_process_open_descriptors";
    /// Most file descriptors that the process may have.
    descriptors_max: Gauge => "headcount_process_max_descriptors";
}
