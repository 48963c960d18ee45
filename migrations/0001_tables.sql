-- The tables of headcount, in a schema of their own so that they can live beside an application's `users`.
--
-- Nobody writes these tables by hand: the rules (one lock order, one version per event, one notification
-- per transaction) live in the functions of the next migrations. There are no foreign keys for the same
-- reason: the functions lock and order rows themselves, and a key check per membership would repeat that
-- lock three times per join.
--
-- Keys compare as bytes (collate "C"): lock order must not depend on a locale, and prefixes use the index.

create table headcount.lineage (
    only_row   boolean primary key default true check (only_row),
    salt       uuid    not null default gen_random_uuid(),
    generation integer not null default 0
);
comment on table headcount.lineage is
    'What makes this history its own: mixed into every epoch. generation rises before unused rooms are forgotten.';
insert into headcount.lineage default values;

create table headcount.users (
    user_id      text collate "C" primary key check (char_length(user_id) between 1 and 128),
    name         text not null check (char_length(name) <= 256),
    avatar_url   text check (char_length(avatar_url) <= 2048),
    last_seen_at timestamptz,
    show_last_seen text not null default 'exact' check (show_last_seen in ('exact', 'coarse', 'hidden')),
    updated_at   timestamptz not null default now()
) with (fillfactor = 80);
comment on column headcount.users.last_seen_at is
    'Last sign of life before the user left a room, where others saw them; while somebody is online, rosters.last_seen is newer.';
comment on column headcount.users.show_last_seen is
    'What other users are told of when this one was last seen: the time, the day (in UTC), or nothing.';

-- One narrow row per session. A heartbeat updates this row and nothing else.
-- fillfactor leaves room for the new version on the same page; the vacuum settings are eager because every
-- row dies every 15 seconds.
create table headcount.presence (
    session_id  uuid primary key,
    user_id     text collate "C" not null,
    visible     boolean     not null default true,
    idle        boolean     not null default false,
    lease       interval    not null default '45 s',
    seq         bigint      not null default 0,
    last_active timestamptz not null default now(),
    last_seen   timestamptz not null default now()
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
comment on column headcount.presence.idle is 'What the rosters say; the session''s next heartbeat notices when it is no longer so.';
comment on column headcount.presence.seq is 'The newest seq a heartbeat of this session carried.';
create index presence_last_seen on headcount.presence (last_seen);

create table headcount.memberships (
    room_id    text collate "C" not null,
    user_id    text collate "C" not null,
    session_id uuid        not null,
    status     text        not null default 'online' check (status in ('online', 'idle', 'dnd')),
    state      jsonb,
    invisible  boolean     not null default false,
    seq        bigint      not null default 0,
    joined_at  timestamptz not null,
    changed_at timestamptz not null,
    leaving_at timestamptz,
    primary key (room_id, user_id, session_id)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
comment on column headcount.memberships.invisible is
    'Whether others do not see it: it is in no roster, no count and no event.';
comment on column headcount.memberships.joined_at is
    'When others first saw the user in the room, the same for all their visible sessions there; of an invisible one, when it joined.';
comment on column headcount.memberships.leaving_at is 'A leave with grace: the sweep completes it then, a join before then cancels it.';
create index memberships_session on headcount.memberships (session_id);
create index memberships_user on headcount.memberships (user_id);
create index memberships_invisible on headcount.memberships (room_id, user_id) where invisible;
create index memberships_leaving on headcount.memberships (leaving_at) where leaving_at is not null;

-- The row lock is the room's clock: a version is taken by updating the row, so version order is commit order.
-- The check runs at every version, and a regular expression there was a fifteenth of what a join costs.
create table headcount.rooms (
    room_id      text collate "C" primary key check (char_length(room_id) between 1 and 128 and btrim(
        room_id, 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_.:~-'
    ) = '' and room_id not in ('.', '..')),
    epoch        text    not null,
    version      bigint  not null default 0,
    member_count integer not null default 0 check (member_count >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create table headcount.events (
    room_id text collate "C" not null,
    version bigint      not null,
    kind    text        not null check (kind in ('joined', 'updated', 'left')),
    user_id text collate "C" not null,
    member  jsonb,
    reason  text check (reason in ('left', 'expired', 'kicked')),
    at      timestamptz not null default clock_timestamp(),
    primary key (room_id, version),
    check ((kind = 'left') = (reason is not null))
);
create index events_at on headcount.events using brin (at);

-- Who left what, for as long as the log is kept: a late join with an older seq must not undo the leave, and
-- a session id stays its first user's after the session is gone.
create table headcount.departures (
    session_id uuid        not null,
    room_id    text collate "C" not null,
    user_id    text collate "C" not null,
    seq        bigint      not null default 0,
    kicked     boolean     not null default false,
    left_at    timestamptz not null default clock_timestamp(),
    primary key (session_id, room_id)
);
comment on column headcount.departures.kicked is 'So that a client which watches nothing learns that it should not come back by itself.';
create index departures_left_at on headcount.departures using brin (left_at);

create table headcount.sweep_state (
    only_row      boolean primary key default true check (only_row),
    last_sweep_at timestamptz not null default clock_timestamp(),
    leases_from   timestamptz not null default '-infinity',
    recovering    boolean     not null default false
);
comment on column headcount.sweep_state.leases_from is
    'End of the last outage: every lease counts from here at the earliest, so nobody expires for what nobody could renew.';
comment on column headcount.sweep_state.recovering is
    'Since an outage, until the sweep has caught up: departures are spread.';
insert into headcount.sweep_state default values;
