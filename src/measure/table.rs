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

/// Label values that are too many to list: the program's own, which are a fixed number, or names of webhooks,
/// at most 20.
const PROGRAMS: &[&str] = &[];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const STATUSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx"];
const LANES: &[&str] = &["main", "aside"];
const OPS: &[&str] = &["join", "leave", "update", "kick"];
const FAILURES: &[&str] = &["unavailable", "outcome_unknown", "busy", "refused", "bug"];
const LIVES: &[&str] = &["alive", "gone"];
const HEARERS: &[&str] = &["own", "listener"];
const MODES: &[&str] = &["diff", "list", "count"];
const BYES: &[&str] = &["drain", "slow", "token_expired", "revoked", "max_age"];
const READERS: &[&str] = &["feed", "webhooks", "watchlists", "writer"];
const POOLS: &[&str] = &["main", "heartbeats"];
const OUTCOMES: &[&str] = &["accepted", "refused", "timeout", "connection", "gone"];
const TABLES: &[&str] = &["users", "presence", "memberships", "rooms", "events", "departures"];

meters! {
    /// Always 1; its label is the version of the program.
    build_info: Dynamic<Gauge> => "headcount_build_info" {"version": PROGRAMS};

    /// Responses, by route pattern (`unmatched` if no route matches, or the request is refused before
    /// routing), method and class of status.
    http_requests: Dynamic<Counter> => "headcount_http_requests_total"
        {"route": PROGRAMS, "method": METHODS, "status": STATUSES};
    /// Time from the head of a request to the head of its response; for a stream, until it begins.
    http_duration: Dynamic<Histogram> => "headcount_http_request_duration_seconds" {"route": PROGRAMS};
    /// Errors sent to clients, by code. Rate limits and limits of streams are `too_many_...` and
    /// `replica_full`.
    http_problems: Dynamic<Counter> => "headcount_http_problems_total" {"code": PROGRAMS};

    /// Commands queued for a transaction. Lane `aside` has those whose room is locked by somebody else.
    /// Beyond 4096 in a lane a command is refused.
    writer_queue: Each<Gauge> => "headcount_writer_queue_commands" {"lane": LANES};
    /// Commands in one transaction, at most 500.
    writer_batch: Histogram => "headcount_writer_batch_commands";
    /// Duration of a transaction of commands, from taking a connection to the commit.
    writer_duration: Histogram => "headcount_writer_commit_duration_seconds";
    /// Transactions of commands that were committed.
    writer_commits: Counter => "headcount_writer_commits_total";
    /// Transactions of commands that failed, by reason.
    writer_failures: Each<Counter> => "headcount_writer_failures_total" {"reason": FAILURES};
    /// Commands carried out.
    commands: Each<Counter> => "headcount_commands_total" {"op": OPS};

    /// Requests with heartbeats queued for a transaction. Beyond 16384 a request is refused.
    heartbeat_queue: Gauge => "headcount_heartbeat_queue_requests";
    /// Sessions in one transaction of heartbeats.
    heartbeat_batch: Histogram => "headcount_heartbeat_batch_sessions";
    /// Duration of a transaction of heartbeats, from taking a connection to the commit.
    heartbeat_duration: Histogram => "headcount_heartbeat_commit_duration_seconds";
    /// Transactions of heartbeats that were committed.
    heartbeat_commits: Counter => "headcount_heartbeat_commits_total";
    /// Transactions of heartbeats that failed, by reason.
    heartbeat_failures: Each<Counter> => "headcount_heartbeat_failures_total" {"reason": FAILURES};
    /// Heartbeats answered, by whether the session lives.
    heartbeats: Each<Counter> => "headcount_heartbeats_total" {"state": LIVES};

    /// Whether notifications of other replicas' commits arrive: 1 while the listener is connected. Otherwise
    /// a poll finds them within 2 s.
    listening: Gauge => "headcount_listening";
    /// Gaps of the listener: times that it may have missed notifications. Watched rooms are then read again.
    listener_gaps: Counter => "headcount_listener_gaps_total";
    /// Health check of the listener: delay of a notification that the replica sends itself, through another
    /// connection, every 5 s.
    listener_lag: Histogram => "headcount_listener_lag_seconds";
    /// Notifications received, of all replicas' commits. Each commit that changes a roster sends one.
    notifications: Counter => "headcount_notifications_received_total";
    /// Hints that a room has moved: from this replica's `own` commits, or from its `listener`.
    hints: Each<Counter> => "headcount_hints_total" {"source": HEARERS};

    /// Open event streams of rooms.
    watchers: Gauge => "headcount_watchers";
    /// Open watchlists: event streams of users.
    watchlists: Gauge => "headcount_watchlists";
    /// Rooms with a watcher on this replica. Their rosters are cached.
    watched_rooms: Gauge => "headcount_watched_rooms";
    /// Event streams opened.
    streams: Counter => "headcount_streams_opened_total";
    /// Event streams ended by the service, by reason. `slow`: the next frame of the watcher was evicted, and
    /// it was disconnected.
    byes: Each<Counter> => "headcount_byes_total" {"reason": BYES};
    /// Frames encoded, once for each mode in which the room has been watched.
    frames_encoded: Each<Counter> => "headcount_frames_encoded_total" {"mode": MODES};
    /// Pieces of event streams handed to sockets: a frame, or a part of one if the stream has many rooms.
    frames_sent: Counter => "headcount_frames_sent_total";
    /// Bytes of event streams handed to sockets, before TLS.
    stream_bytes: Counter => "headcount_stream_bytes_total";

    /// Lag from writing an event until its frame is handed to the watchers' threads; of a frame's oldest
    /// event, by the database's clock. It includes coalescing: 20 ms for small rooms, 1 s for the largest.
    fanout_lag: Histogram => "headcount_fanout_lag_seconds";
    /// Duration of one read of the log for all watched rooms that are due.
    feed_duration: Histogram => "headcount_feed_read_duration_seconds";
    /// Reads of the log that failed, by reason.
    feed_failures: Each<Counter> => "headcount_feed_read_failures_total" {"reason": FAILURES};
    /// Rows that this build does not understand, and what read them: `feed` of a watched room, whose streams are marked
    /// stale; `webhooks`, told as a gap; `watchlists`; `writer`. A row costs its own room, and no other.
    unreadable: Each<Counter> => "headcount_unreadable_rows_total" {"by": READERS};
    /// Whether watched rooms cannot be read: 1 while rosters and streams are served as they were, marked stale.
    stale: Gauge => "headcount_stale";
    /// Lag of this replica's rosters behind the log, in events: the most of any watched room. Read every 15
    /// s, for up to 1000 rooms.
    version_lag: Gauge => "headcount_version_lag_events";

    /// Sweeps by this replica. A sweep that finds another replica sweeping is a no-op.
    sweeps: Counter => "headcount_sweeps_total";
    /// Duration of a sweep.
    sweep_duration: Histogram => "headcount_sweep_duration_seconds";
    /// Sessions whose lease ran out, ended by this replica.
    expired: Counter => "headcount_expired_sessions_total";
    /// Members removed by sweeps of this replica: their lease ran out, or the grace of their leave was over.
    departed: Counter => "headcount_departed_members_total";
    /// Time since the last sweep of any replica, by the database's clock; read every 15 s.
    sweep_age: Gauge => "headcount_last_sweep_age_seconds";
    /// Whether the outage rule is in force, because sweeps had stopped: 1 while no lease expires, or
    /// departures are throttled; read every 15 s.
    outage_rule: Gauge => "headcount_outage_rule";

    /// Events of the log that a webhook was not told of yet, the outbox included, by the database, every 5 s: the same on
    /// every replica.
    webhook_backlog: Dynamic<Gauge> => "headcount_webhook_backlog_events" {"webhook": PROGRAMS};
    /// Age of the oldest of them.
    webhook_backlog_age: Dynamic<Gauge> => "headcount_webhook_backlog_seconds" {"webhook": PROGRAMS};
    /// Attempts of this replica to deliver to a webhook, retries included.
    webhook_deliveries: Dynamic<Counter> => "headcount_webhook_deliveries_total"
        {"webhook": PROGRAMS, "outcome": OUTCOMES};
    /// Duration of an attempt to deliver to a webhook.
    webhook_duration: Dynamic<Histogram> => "headcount_webhook_delivery_seconds" {"webhook": PROGRAMS};

    /// Database connections open.
    connections: Each<Gauge> => "headcount_database_connections" {"pool": POOLS};
    /// Idle database connections.
    connections_idle: Each<Gauge> => "headcount_database_connections_idle" {"pool": POOLS};
    /// Limit of database connections of the pool.
    connections_max: Each<Gauge> => "headcount_database_connections_max" {"pool": POOLS};
    /// Time to get a database connection: waiting for one, or opening it.
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
    /// Limit of file descriptors of the process.
    descriptors_max: Gauge => "headcount_process_max_descriptors";
}
