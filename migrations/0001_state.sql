-- The state of headcount: tables, indexes, types and views, in a schema of their own so that they can live beside an
-- application's `users`. The rules that change it are in functions/, which is loaded anew whenever it changes.
--
-- There are no foreign keys: the functions lock and order rows themselves, and a key check per membership would repeat
-- that lock three times per join.
--
-- Keys compare as bytes (collate "C"): lock order must not depend on a locale, and prefixes use the index.

-- Which functions are loaded. Every statement that calls several of them reads this table first; the loader locks it before
-- it commits, so that no call runs half of the old functions and half of the new ones.
create table headcount.rules (
    only_row  boolean primary key default true check (only_row),
    revision  integer     not null default 0,
    checksum  text        not null default '',
    loaded_at timestamptz not null default clock_timestamp()
);
comment on table headcount.rules is 'Which revision of migrations/functions is loaded. A build never replaces a newer one.';
insert into headcount.rules default values;

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
    lease       interval    not null,
    seq         bigint      not null default 0,
    last_active timestamptz not null default now(),
    last_seen   timestamptz not null default now(),
    lease_visible interval,
    lease_hidden  interval
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
comment on column headcount.presence.idle is 'What the rosters say; the session''s next heartbeat notices when it is no longer so.';
comment on column headcount.presence.seq is 'The newest seq a heartbeat of this session carried.';
comment on column headcount.presence.lease_visible is
    'What the settings of its rooms say of its lease while it is visible; null: nothing, it is the deployment''s.';
comment on column headcount.presence.lease_hidden is 'The same while it is hidden.';
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
    check ((kind = 'left') = (reason is not null))
) partition by range (at);
comment on table headcount.events is
    'The log: one row per version of a room, in a partition for each day (of UTC).';
create index events_at on headcount.events using brin (at);

-- A version is taken under its room's lock, so each partition's key (room_id, version) is all that look-ups need; one
-- over all partitions would have to hold `at`, and would refuse less: the same version at another time.
-- From yesterday on, should the clock be set back; the coming days are made by headcount.turn_days.
do $$
declare
    v_today timestamp := date_trunc('day', clock_timestamp() at time zone 'UTC');
    v_day   timestamp;
    v_name  text;
begin
    create table headcount.events_default
        (like headcount.events including defaults including constraints, primary key (room_id, version));
    alter table headcount.events attach partition headcount.events_default default;
    for v_ahead in -1 .. 3 loop
        v_day := v_today + v_ahead * interval '1 day';
        v_name := 'events_' || to_char(v_day, 'YYYYMMDD');
        execute format(
            'create table headcount.%I (like headcount.events including defaults including constraints, primary key (room_id, version))',
            v_name
        );
        execute format(
            'alter table headcount.events attach partition headcount.%I for values from (%L) to (%L)',
            v_name, v_day at time zone 'UTC', (v_day + interval '1 day') at time zone 'UTC'
        );
    end loop;
end
$$;

-- Sessions that left rooms, kept as long as the log: a join that arrives late, with an older seq, must not undo the leave,
-- and a session id stays its first user's after the session is gone.
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

create table headcount.log_state (
    only_row      boolean primary key default true check (only_row),
    complete_from timestamptz not null default clock_timestamp(),
    tried_at      timestamptz not null default '-infinity'
);
comment on table headcount.log_state is 'What the log holds. Its row is locked by whoever trims, and by nobody else.';
comment on column headcount.log_state.complete_from is
    'Every event since then is in the log: raised before anything is removed. Questions about earlier times are refused.';
comment on column headcount.log_state.tried_at is
    'When a partition could last not be made or dropped because somebody held the log.';
insert into headcount.log_state default values;

-- Read by every writing transaction; columns that change often are in webhook_deliveries.
create table headcount.webhooks (
    name            text collate "C" primary key,
    url             text        not null,
    types           text[]      not null,
    rooms           text[]      not null,
    leave_delay     interval    not null default '0',
    enabled         boolean     not null default true,
    disabled_reason text,
    secret_count    integer     not null default 1,
    created_at      timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp()
);
comment on column headcount.webhooks.rooms is 'Rooms, or beginnings of rooms with a * after them.';
comment on column headcount.webhooks.disabled_reason is '`gone` when the receiver answered 410; null when an operator did it.';

-- No role is granted to read it: webhook_hold and webhook_target give the secrets of one webhook.
create table headcount.webhook_secrets (
    name    text collate "C" primary key,
    secrets text[] not null
);
comment on column headcount.webhook_secrets.secrets is 'As operators gave them (whsec_...); what is sent is signed with each.';

create table headcount.webhook_deliveries (
    name             text collate "C" primary key,
    claim            uuid,
    replica          text,
    leased_until     timestamptz not null default '-infinity',
    attempts         integer     not null default 0,
    next_attempt_at  timestamptz not null default '-infinity',
    last_error       text,
    last_failed_at   timestamptz,
    last_accepted_at timestamptz,
    accepted         bigint      not null default 0
) with (fillfactor = 50);
comment on column headcount.webhook_deliveries.claim is
    'Whoever delivers; another one after leased_until. What a claim that was lost says of cursors is not believed.';
comment on column headcount.webhook_deliveries.attempts is 'Failed ones, since the last that was accepted.';

create table headcount.webhook_outbox (
    seq     bigint generated always as identity primary key,
    room_id text collate "C" not null,
    epoch   text   not null,
    before  bigint not null,
    head    bigint not null,
    count   integer not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
comment on column headcount.webhook_outbox.seq is
    'Only compared within a room, where the room''s lock makes it the order of commits.';
comment on column headcount.webhook_outbox.count is 'The members at head.';

-- A room in which a webhook lags. Another epoch is another row: an event's id names the epoch in which it was committed,
-- also when it is sent after a failover.
create table headcount.webhook_rooms (
    name     text collate "C" not null,
    room_id  text collate "C" not null,
    epoch    text        not null,
    seq      bigint      not null,
    version  bigint      not null,
    head     bigint      not null,
    count    integer     not null,
    returns  bigint[]    not null default '{}',
    occupies bigint,
    due_at   timestamptz not null,
    since    timestamptz not null,
    primary key (name, room_id, epoch)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on column headcount.webhook_rooms.version is 'The last one that was put into a batch, or needed not be told.';
comment on column headcount.webhook_rooms.count is 'The members at that version.';
comment on column headcount.webhook_rooms.returns is
    'Joins after it that are not told, because the leave before was not: the user came back within the delay.';
comment on column headcount.webhook_rooms.occupies is 'The join after it that is not told to occupy the room, likewise.';
comment on column headcount.webhook_rooms.since is 'When the first event happened that was not yet put into a batch.';
create index webhook_rooms_due on headcount.webhook_rooms (name, due_at, room_id);

create table headcount.webhook_batches (
    name     text collate "C" primary key,
    batch_id uuid        not null,
    events   jsonb       not null,
    since    timestamptz not null,
    made_at  timestamptz not null default clock_timestamp()
);

create table headcount.room_settings (
    pattern      text collate "C" primary key
        check (pattern ~ '^[A-Za-z0-9_.:~-]{0,128}\*?$' and pattern not in ('', '.', '..')),
    lease        interval check (lease between '3 s' and '1 h'),
    lease_hidden interval check (lease_hidden between '3 s' and '1 h'),
    coalesce_ms  integer check (coalesce_ms between 20 and 60000),
    list_max     integer check (list_max between 1 and 1000),
    members_max  integer check (members_max between 1 and 1000000),
    check (lease_hidden >= lease)
);
comment on table headcount.room_settings is 'Settings of rooms by pattern, at most 100. Replicas follow within 2 s.';
comment on column headcount.room_settings.lease is
    'How long a heartbeat of a visible session lasts. A session in several rooms has the shortest of theirs.';
comment on column headcount.room_settings.lease_hidden is 'The same of a hidden session; never shorter than lease.';
comment on column headcount.room_settings.coalesce_ms is 'Frames of the room are at least this far apart.';
comment on column headcount.room_settings.list_max is
    'Members that a frame lists at most: past that mode=list sends the count, and a snapshot the first page.';
comment on column headcount.room_settings.members_max is 'Members that the room takes; one more is refused as room_full.';

-- Types that the functions pass to one another. A type is never altered, because functions that are loaded and functions
-- that are about to be may not differ in one: a change is another type.

-- A room and where it was when it was locked.
create type headcount.room_version as (room_id text, version bigint);

-- A room and where it is now.
create type headcount.position as (room_id text, epoch text, version bigint);

-- What a caller asks, as `headcount.apply` reads it from JSON.
create type headcount.command as (
    ord          integer,
    op           text,     -- join | leave | update | kick
    room_id      text,
    user_id      text,
    session_id   uuid,     -- null for kick
    seq          bigint,
    name         text,     -- join: the profile, null keeps what is stored
    avatar_url   text,
    status       text,     -- join, update: null keeps
    state        jsonb,
    visible      boolean,
    invisible    boolean,  -- join, update: null keeps
    lease        interval, -- of a visible session, and of a hidden one
    lease_hidden interval,
    grace        interval, -- leave: wait this long for a join of the same user
    limited      boolean,  -- join: refused where it would give its user more than they may have
    wave         integer   -- one about the same user in the same room goes in the next wave
);

-- What is found out and decided about a command: the n-th verdict belongs to the n-th command. A command that is
-- refused keeps its place. The outcomes are in functions/decide.sql; null: not decided yet.
create type headcount.verdict as (
    outcome   text,
    opened    boolean,     -- this batch made its session
    known     boolean,     -- the session is in the room
    company   boolean,     -- the user is, with some session
    seen_from timestamptz, -- since when others see the user there
    idle      boolean,     -- the session is
    renews    boolean,     -- the session is renewed by it
    created   boolean,     -- it made the user a member
    member    jsonb,       -- the member afterwards, as they see themselves; null for nobody
    epoch     text,        -- where the room is afterwards; null: to be looked up
    version   bigint
);

-- One (room, user) that a statement may change. `before` is what others saw, null for nobody; `after` what they
-- will see, null while that is not known, JSON's null for nobody. `kind` is the event that follows; null for none.
create type headcount.touched as (
    room_id text, user_id text, before jsonb, after jsonb, kind text, reason text, last_seen timestamptz
);

create type headcount.profile as (user_id text, name text, avatar_url text, show_last_seen text);
comment on type headcount.profile is 'A null keeps what is stored; an empty avatar_url removes it.';

create type headcount.webhook_progress as (
    room_id text, epoch text, "from" bigint, version bigint, count integer, returns bigint[], occupies bigint,
    due_at timestamptz, since timestamptz
);

-- One row for what others see of a user in a room, and one for what they do not. The word is for the database only:
-- a member is who is in the rosters.
create view headcount.sightings as
select
    m.room_id,
    m.user_id,
    m.invisible,
    u.name,
    u.avatar_url,
    case
        when bool_or(m.status = 'online' and not p.idle) then 'online'
        when bool_or(m.status = 'dnd') then 'dnd'
        else 'idle'
    end as status,
    coalesce(
        (array_agg(m.state order by m.changed_at desc, m.session_id) filter (where m.state is not null))[1],
        '{}'
    ) as state,
    count(*)::integer as sessions,
    min(m.joined_at) as joined_at,
    max(p.last_seen) as last_seen
from headcount.memberships m
join headcount.presence p on p.session_id = any (array[m.session_id])
join headcount.users u on u.user_id = any (array[m.user_id])
group by m.room_id, m.user_id, m.invisible, u.user_id;

 -- the key of users: names need no comparing
comment on view headcount.sightings is
    'Who is in every room, also invisible ones. A user with visible and invisible sessions there has a row for each kind.';

create view headcount.rosters as
select s.room_id, s.user_id, s.name, s.avatar_url, s.status, s.state, s.sessions, s.joined_at, s.last_seen
from headcount.sightings s
where not s.invisible;
comment on view headcount.rosters is
    'The members of every room. Status is that of the most present session (online, dnd, idle); state is the newest one set.';

create view headcount.unseen as
select s.room_id, s.user_id, s.name, s.avatar_url, s.status, s.state, s.sessions, s.joined_at, s.last_seen
from headcount.sightings s
where s.invisible
  and not exists (
      select from headcount.memberships v
      where v.room_id = s.room_id and v.user_id = s.user_id and not v.invisible
  );
comment on view headcount.unseen is 'Who is in a room with invisible sessions only. Nobody else is told.';

create view headcount.online as
select
    u.user_id,
    u.name,
    u.avatar_url,
    array_agg(distinct m.room_id order by m.room_id) as rooms,
    max(p.last_seen) as last_seen
from headcount.memberships m
join headcount.presence p on p.session_id = m.session_id
join headcount.users u on u.user_id = m.user_id
where not m.invisible
group by u.user_id;
comment on view headcount.online is 'Users with a live session, and the rooms they are in; but not where they are invisible.';

create view headcount.stays as
select
    s.room_id,
    s.user_id,
    case when s.kind = 'joined' then s.at end as joined_at,
    case when s.kind = 'joined' then s.next_at else s.at end as left_at,
    case when s.kind = 'joined' then s.next_reason else s.reason end as reason
from (
    select
        e.room_id, e.user_id, e.kind, e.at, e.reason,
        lead(e.at) over mine as next_at,
        lead(e.reason) over mine as next_reason,
        lag(e.kind) over mine as before
    from headcount.events e
    where e.kind <> 'updated'
    window mine as (partition by e.room_id, e.user_id order by e.version)
) s
where s.kind = 'joined' or s.before is null;
comment on view headcount.stays is
    'From when to when users were in rooms, as far as the log goes: joined_at is null where it does not reach back so far, left_at while they are there.';

create view headcount.whereabouts as
select
    u.user_id,
    u.name,
    u.avatar_url,
    m.rooms is not null as online,
    m.status,
    coalesce(m.rooms, '{}') as rooms,
    greatest(m.last_seen, u.last_seen_at) as last_seen
from headcount.users u
left join lateral (
    select
        array_agg(r.room_id order by r.room_id) as rooms,
        case
            when bool_or(r.status = 'online') then 'online'
            when bool_or(r.status = 'dnd') then 'dnd'
            else 'idle'
        end as status,
        max(r.last_seen) as last_seen
    from headcount.rosters r
    where r.user_id = u.user_id
    having count(*) > 0
) m on true;
comment on view headcount.whereabouts is
    'Every known user: whether others see them anywhere, in which rooms, with which status, and when they were last seen.';
