-- no-transaction
-- The log by day, and questions about the past.
--
-- The log becomes a table that is partitioned by day (of UTC), so that it is trimmed by dropping days. Several
-- transactions, because the table may be large and is written to meanwhile: what reads it all takes no lock that
-- writers wait for, and what takes such a lock reads nothing and gives up after 150 ms, to try again. Each can be run
-- again, should it be stopped half-way.
--
-- A version is taken under its room's lock, so each partition's key (room_id, version) is all that look-ups need; one
-- over all partitions would have to hold `at`, and would refuse less: the same version at another time.

begin;

create table if not exists headcount.log_state (
    only_row      boolean primary key default true check (only_row),
    complete_from timestamptz not null default clock_timestamp(),
    before_until  timestamptz,
    tried_at      timestamptz not null default '-infinity'
);
comment on table headcount.log_state is 'What the log holds. Its row is locked by whoever trims, and by nobody else.';
comment on column headcount.log_state.complete_from is
    'Every event since then is in the log: raised before anything is removed. Questions about earlier times are refused.';
comment on column headcount.log_state.before_until is
    'Where the partition events_before ends: the log as it was before it was kept by day.';
comment on column headcount.log_state.tried_at is
    'When a partition could last not be made or dropped because somebody held the log.';
insert into headcount.log_state default values on conflict do nothing;

-- Takes the log for itself between two transactions of others. Who queues behind it waits 150 ms at most.
create or replace function headcount.seize_log() returns void language plpgsql
set lock_timeout = '150 ms'
as $$
begin
    for v_try in 1 .. 400 loop
        begin
            lock table only headcount.events in access exclusive mode;
            return;
        exception when lock_not_available then
            perform pg_sleep(0.2 + random() / 5);
        end;
    end loop;
    raise 'somebody holds headcount.events all the time: see pg_locks, end the long transaction, and migrate again'
        using errcode = 'lock_not_available';
end
$$;

-- Says that the table holds nothing from a day on that is well away, without looking. What is written until then goes
-- on going into it.
do $$
declare
    v_until timestamptz := (date_trunc('day', clock_timestamp() at time zone 'UTC') + interval '7 days') at time zone 'UTC';
begin
    if (select c.relkind from pg_class c where c.oid = 'headcount.events'::regclass) <> 'r' then
        return;
    end if;
    update headcount.log_state set before_until = v_until;
    if exists (select from headcount.events) then
        perform headcount.seize_log();
        alter table headcount.events drop constraint if exists events_before_until;
        execute format('alter table headcount.events add constraint events_before_until check (at < %L) not valid', v_until);
    end if;
end
$$;

commit;

-- Now looks. Whoever reads or writes goes on meanwhile.
begin;

do $$
begin
    if exists (
        select from pg_constraint c
        where c.conrelid = 'headcount.events'::regclass and c.conname = 'events_before_until'
    ) then
        alter table headcount.events validate constraint events_before_until;
    end if;
end
$$;

commit;

begin;

-- The partitions. One without a day is events_before, or events_default, which takes what no other does.
create or replace function headcount.log_days()
returns table (part regclass, begins timestamptz, ends timestamptz, is_day boolean) language sql stable as $$
    select
        i.inhrelid::regclass,
        case
            when c.relname ~ '^events_\d{8}$' then right(c.relname::text, 8)::date::timestamp at time zone 'UTC'
            when c.relname = 'events_before' then '-infinity'
        end,
        case
            when c.relname ~ '^events_\d{8}$' then (right(c.relname::text, 8)::date + 1)::timestamp at time zone 'UTC'
            when c.relname = 'events_before' then (select s.before_until from headcount.log_state s)
        end,
        c.relname ~ '^events_\d{8}$'
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'headcount.events'::regclass
$$;

-- locks: for an instant the default partition, so that whoever replays waits, and nobody who writes.
-- Made apart and attached then: `create table ... partition of` would lock the log against everybody.
create or replace function headcount.make_day(p_begins timestamptz) returns text language plpgsql as $$
declare
    v_name text := 'events_' || to_char(p_begins at time zone 'UTC', 'YYYYMMDD');
begin
    execute format(
        'create table headcount.%I (like headcount.events including defaults including constraints, primary key (room_id, version))',
        v_name
    );
    execute format(
        'alter table headcount.events attach partition headcount.%I for values from (%L) to (%L)',
        v_name, p_begins, (p_begins at time zone 'UTC' + interval '1 day') at time zone 'UTC'
    );
    return v_name;
end
$$;

-- Makes the first partition that is missing for one of the coming days. Gives its name, null when none is missing.
--
-- Never one for today: who is writing may have looked for it before it was there, and would be refused by the default
-- partition after. Never one for a day that already has rows in the default partition, or while that is so large
-- that looking through it, which attaching does, would keep others waiting: what is there stays, is found as before,
-- and is trimmed row by row.
create or replace function headcount.make_next_day(p_ahead integer) returns text language plpgsql as $$
declare
    v_today  timestamp := date_trunc('day', clock_timestamp() at time zone 'UTC');
    v_begins timestamptz;
begin
    for v_ahead in 1 .. p_ahead loop
        v_begins := (v_today + v_ahead * interval '1 day') at time zone 'UTC';
        continue when v_begins < clock_timestamp() + interval '1 hour'
            or exists (select from headcount.log_days() d where d.begins <= v_begins and v_begins < d.ends)
            or to_regclass('headcount.events_' || to_char(v_begins at time zone 'UTC', 'YYYYMMDD')) is not null
            or exists (
                select from headcount.events_default e
                where e.at >= v_begins and e.at < (v_begins at time zone 'UTC' + interval '1 day') at time zone 'UTC'
            );
        if pg_relation_size('headcount.events_default') > 16 * 1024 * 1024 then
            return null;
        end if;
        return headcount.make_day(v_begins);
    end loop;
    return null;
end
$$;

-- Drops the oldest partition that holds nothing from p_before on. Gives its name, null when there is none.
-- needs: the row of log_state locked. locks: the log, against everybody, while the catalog is written.
create or replace function headcount.drop_oldest_day(p_before timestamptz) returns text language plpgsql as $$
declare
    v_day record;
begin
    select d.part, d.part::text as name, d.ends into v_day
    from headcount.log_days() d
    where d.ends <= p_before
    order by d.ends
    limit 1;
    if not found then
        return null;
    end if;
    update headcount.log_state s set complete_from = greatest(s.complete_from, v_day.ends);
    lock table only headcount.events in access exclusive mode;
    -- Who waits for the log waits for this too.
    perform set_config('lock_timeout', '50 ms', true);
    execute format('drop table %s', v_day.name);
    return v_day.name;
end
$$;

-- One step of keeping the log by day: a partition that is too old dropped, or one made for a coming day. Gives what
-- it did, null when nothing was due. Waits 200 ms at most for whoever holds the log, because everybody else waits
-- behind it meanwhile; when that was not enough, nobody tries again for most of a minute.
create or replace function headcount.turn_days(p_retention interval default '24 h', p_ahead integer default 3)
returns text language plpgsql
security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '150 ms'
as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_tried timestamptz;
begin
    select s.tried_at into v_tried from headcount.log_state s for update skip locked;
    if not found or v_tried between v_now - interval '50 s' and v_now then
        return null;
    end if;
    begin
        return coalesce('dropped ' || headcount.drop_oldest_day(v_now - p_retention), 'made ' || headcount.make_next_day(p_ahead));
    exception when lock_not_available or deadlock_detected then
        update headcount.log_state s set tried_at = v_now;
        return null;
    end;
end
$$;
comment on function headcount.turn_days is
    'Run every minute by the service. By hand, with more days ahead, before a time without one.';

-- As before (0005), but that whole days are dropped by turn_days. Row by row goes only what a day is too coarse for:
-- all, when less than a day is kept, and else what is in no partition of a day.
create or replace function headcount.trim(p_retention interval default '24 h', p_limit integer default 10000)
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_before     timestamptz := clock_timestamp() - p_retention;
    v_generation text := (select to_hex(l.generation) from headcount.lineage l);
    v_part       regclass;
    v_rows       integer;
    v_events     integer := 0;
    v_departures integer;
    v_rooms      integer;
    v_empty      text[];
begin
    perform from headcount.log_state for update skip locked;
    if not found then
        return false;
    end if;
    for v_part in
        select d.part from headcount.log_days() d
        where coalesce(d.begins, '-infinity') < v_before and (not d.is_day or p_retention < '1 day')
    loop
        execute format(
            'delete from %1$s e where e.ctid = any (array(select o.ctid from %1$s o where o.at < $1 limit $2))', v_part
        ) using v_before, p_limit - v_events;
        get diagnostics v_rows = row_count;
        v_events := v_events + v_rows;
    end loop;
    if v_events > 0 then
        update headcount.log_state s set complete_from = greatest(s.complete_from, v_before);
    end if;

    -- Not those that somebody is writing again: the trim must not wait while it holds others.
    delete from headcount.departures d
    where d.ctid = any (array(
        select o.ctid from headcount.departures o where o.left_at < v_before limit p_limit for update skip locked
    ));
    get diagnostics v_departures = row_count;

    v_empty := array(
        select r.room_id from headcount.rooms r
        where r.member_count = 0 and substr(r.epoch, 9) <> v_generation
          and not exists (select from headcount.events e where e.room_id = r.room_id)
          and not exists (select from headcount.memberships m where m.room_id = r.room_id)
        limit p_limit
        for update skip locked
    );
    -- Looked at again under the lock: somebody may have come and gone, and left a log.
    delete from headcount.rooms r
    where r.room_id = any (v_empty) and r.member_count = 0
      and not exists (select from headcount.events e where e.room_id = r.room_id)
      and not exists (select from headcount.memberships m where m.room_id = r.room_id);
    get diagnostics v_rooms = row_count;

    if v_rooms = 0 and exists (
        select from headcount.rooms r
        where r.member_count = 0 and substr(r.epoch, 9) = v_generation
          and not exists (select from headcount.events e where e.room_id = r.room_id)
          and not exists (select from headcount.memberships m where m.room_id = r.room_id)
    ) then
        update headcount.lineage l set generation = l.generation + 1;
    end if;
    return greatest(v_events, v_departures, v_rooms) >= p_limit;
end
$$;

commit;

-- The table becomes the partition of everything until the day that was said above; an empty one is not needed.
begin;

do $$
declare
    v_grant  record;
    v_until  timestamptz;
    v_begins timestamptz;
begin
    if (select c.relkind from pg_class c where c.oid = 'headcount.events'::regclass) <> 'r' then
        return;
    end if;
    perform headcount.seize_log();
    alter table headcount.events rename to events_before;
    alter table headcount.events_before rename constraint events_pkey to events_before_pkey;
    alter index headcount.events_at rename to events_before_at;

    create table headcount.events (
        room_id text collate "C" not null,
        version bigint      not null,
        kind    text        not null constraint events_kind_check check (kind in ('joined', 'updated', 'left')),
        user_id text collate "C" not null,
        member  jsonb,
        reason  text constraint events_reason_check check (reason in ('left', 'expired', 'kicked')),
        at      timestamptz not null default clock_timestamp(),
        constraint events_check check ((kind = 'left') = (reason is not null))
    ) partition by range (at);
    create index events_at on headcount.events using brin (at);

    -- Whoever could read it goes on.
    for v_grant in
        select a.privilege_type, a.is_grantable, coalesce(r.rolname, 'public') as grantee, r.rolname is null as everybody
        from pg_class c
        cross join lateral aclexplode(c.relacl) a
        left join pg_roles r on r.oid = a.grantee
        where c.oid = 'headcount.events_before'::regclass and a.grantee <> c.relowner
    loop
        execute format(
            'grant %s on headcount.events to %s %s', v_grant.privilege_type,
            case when v_grant.everybody then 'public' else quote_ident(v_grant.grantee) end,
            case when v_grant.is_grantable then 'with grant option' end
        );
    end loop;

    if exists (select from headcount.events_before) then
        v_until := (select s.before_until from headcount.log_state s);
        execute format(
            'alter table headcount.events attach partition headcount.events_before for values from (minvalue) to (%L)', v_until
        );
        alter table headcount.events_before drop constraint if exists events_before_until;
    else
        drop table headcount.events_before;
        update headcount.log_state set before_until = null;
    end if;
    create table headcount.events_default (like headcount.events including defaults including constraints, primary key (room_id, version));
    alter table headcount.events attach partition headcount.events_default default;
    -- From yesterday on, should the clock be set back.
    for v_ahead in -1 .. 3 loop
        v_begins := (date_trunc('day', clock_timestamp() at time zone 'UTC') + v_ahead * interval '1 day') at time zone 'UTC';
        v_begins := greatest(v_begins, v_until);
        if not exists (select from headcount.log_days() d where d.begins <= v_begins and v_begins < d.ends) then
            perform headcount.make_day(v_begins);
        end if;
    end loop;
end
$$;
comment on table headcount.events is
    'The log: one row per version of a room, in a partition for each day (of UTC).';

commit;

begin;

drop function if exists headcount.seize_log();

-- For each position whose room has moved since: its number, the room's head, and what came after it, oldest first, all
-- as of one moment. Only rooms that have moved are looked up in the log; for the others this is one look at their row.
-- A room that nobody has joined yet is at version 0 of the epoch it would be created with.
--
-- With p_recent it looks into the partitions of yesterday until tomorrow only, and gives of older events nothing, in which
-- the caller finds a gap. Nearly everybody has missed seconds, and months of partitions would cost them all as much.
--
-- The settings, as in 0004: the partition of the day that begins was empty when the plan was made, and reading all of
-- an empty table is quickest.
create or replace function headcount.tails(
    p_rooms text[], p_epochs text[], p_versions bigint[], p_limit bigint, p_recent boolean default false
)
returns table (
    n bigint, epoch text, head bigint, version bigint, kind text, user_id text, member jsonb, reason text,
    age double precision
)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_today timestamp := date_trunc('day', clock_timestamp() at time zone 'UTC');
    v_from  timestamptz := case when p_recent then (v_today - interval '1 day') at time zone 'UTC' else '-infinity' end;
    v_until timestamptz := case when p_recent then (v_today + interval '2 days') at time zone 'UTC' else 'infinity' end;
begin
    return query
    select
        m.n, m.epoch, m.head, e.version, e.kind, e.user_id, e.member, e.reason,
        extract(epoch from clock_timestamp() - e.at)::float8
    from (
        select
            w.n, w.room_id,
            coalesce(l.lineage || substr(r.epoch, 9), l.epoch) as epoch,
            coalesce(r.version, 0) as head,
            case when w.epoch = l.lineage || substr(r.epoch, 9) then w.version end as reached
        from unnest(p_rooms, p_epochs, p_versions) with ordinality w (room_id, epoch, version, n)
        cross join (select headcount.lineage() as lineage, headcount.epoch() as epoch offset 0) l
        left join headcount.rooms r on r.room_id = any (array[w.room_id])
        where w.epoch <> coalesce(l.lineage || substr(r.epoch, 9), l.epoch) or w.version <> coalesce(r.version, 0)
        offset 0
    ) m
    left join lateral (
        select e.version, e.kind, e.user_id, e.member, e.reason, e.at
        from headcount.events e
        where e.room_id = m.room_id and e.version > m.reached and e.version <= m.head
          and e.at >= v_from and e.at < v_until
        order by e.version
        limit p_limit
    ) e on true
    order by m.n, e.version;
end
$$;

-- Questions about the past.
--
-- The log is undone from now: whoever is in the roster and has no event since was there with what the roster says, and
-- of the others the first event since tells whether they were there before. That is exact for as long as the log is
-- complete, also of those who joined before it begins; a fold from its beginning would not know of them. What they
-- looked like then is in their last event before, if the log still holds that.
--
-- A time includes what happened at it. While the clock goes back, "then" is just before the first event of a later time.

-- The room's version as of a time.
create or replace function headcount.version_at(p_room text, p_at timestamptz) returns bigint language plpgsql stable
set enable_seqscan = off
as $$
begin
    return coalesce(
        (
            select e.version - 1 from headcount.events e
            where e.room_id = p_room and e.at > p_at
            order by e.version
            limit 1
        ),
        (select r.version from headcount.rooms r where r.room_id = p_room),
        0
    );
end
$$;

create or replace function headcount.history_bounds(p_room text, p_at timestamptz default null)
returns table (complete_from timestamptz, now timestamptz, epoch text, version bigint, member_count bigint)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_from    timestamptz := (select s.complete_from from headcount.log_state s);
    v_room    headcount.rooms := (select r from headcount.rooms r where r.room_id = p_room);
    v_version bigint;
    v_count   bigint;
begin
    if p_at >= v_from then
        v_version := headcount.version_at(p_room, p_at);
        v_count := coalesce(v_room.member_count, 0) - coalesce((
            select sum(case e.kind when 'joined' then 1 else -1 end)
            from headcount.events e
            where e.room_id = p_room and e.version > v_version and e.kind <> 'updated'
        ), 0);
    end if;
    return query select
        v_from, clock_timestamp(), coalesce(headcount.lineage() || substr(v_room.epoch, 9), headcount.epoch()),
        v_version, v_count;
end
$$;
comment on function headcount.history_bounds is
    'Since when the log is complete, the clock, and a room''s epoch, and as of a time its version and how many members it had. Earlier times than the first cannot be asked for.';

create or replace function headcount.must_reach(p_at timestamptz) returns void language plpgsql stable as $$
declare
    v_from timestamptz := (select s.complete_from from headcount.log_state s);
begin
    if p_at < v_from then
        raise 'the log does not reach back to %', p_at
            using errcode = 'HC001', detail = 'It is complete since ' || v_from, hint = 'HEADCOUNT_RETENTION says how long it is kept.';
    end if;
    if p_at > clock_timestamp() then
        raise '% is not over', p_at using errcode = 'invalid_parameter_value';
    end if;
end
$$;

-- A range without what the log does not hold any more and what is not over.
create or replace function headcount.known_range(
    p_from timestamptz, p_to timestamptz, out since timestamptz, out until timestamptz
) language plpgsql stable as $$
begin
    if p_from >= p_to is not false then
        raise 'a range begins before it ends' using errcode = 'invalid_parameter_value';
    end if;
    -- An end is not in the range.
    perform headcount.must_reach(least(p_to, clock_timestamp()) - interval '1 microsecond');
    select greatest(p_from, s.complete_from), least(p_to, clock_timestamp()) into since, until from headcount.log_state s;
    if since >= until then
        raise '% is not over', p_from using errcode = 'invalid_parameter_value';
    end if;
end
$$;

create or replace function headcount.members_at(
    p_room text, p_at timestamptz, p_after text default '', p_limit bigint default null
)
returns table (
    user_id text, name text, avatar_url text, status text, state jsonb, joined_at timestamptz, exact boolean
)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_version bigint;
    v_oldest  bigint;
    v_users   text[];
    v_then    jsonb; -- by user, the member as of then
    v_later   jsonb; -- and what is first known of them after
    v_missing text[];
    v_found   jsonb;
begin
    perform headcount.must_reach(p_at);
    v_version := headcount.version_at(p_room, p_at);
    with firsts as materialized (
        select distinct on (e.user_id) e.user_id, e.kind, e.member
        from headcount.events e
        where e.room_id = p_room and e.version > v_version
        order by e.user_id, e.version
    ), present as (
        select f.user_id, f.member, true as changed
        from firsts f
        where f.kind <> 'joined' and f.user_id > p_after
        union all
        select r.user_id, headcount.member(r), false
        from headcount.rosters r
        where r.room_id = p_room and r.user_id > p_after and not exists (select from firsts f where f.user_id = r.user_id)
        order by user_id
        limit p_limit
    )
    select
        coalesce(array_agg(p.user_id order by p.user_id), '{}'),
        coalesce(jsonb_object_agg(p.user_id, p.member) filter (where not p.changed), '{}'),
        coalesce(jsonb_object_agg(p.user_id, p.member) filter (where p.changed), '{}'),
        coalesce(array_agg(p.user_id) filter (where p.changed), '{}')
    into v_users, v_then, v_later, v_missing
    from present p;

    -- All of them in one walk back, in steps, so that it ends where the last of them is found.
    v_oldest := (select e.version from headcount.events e where e.room_id = p_room order by e.version limit 1);
    while v_missing <> '{}' and v_version >= v_oldest loop
        v_found := (
            select coalesce(jsonb_object_agg(l.user_id, l.member), '{}')
            from (
                select distinct on (e.user_id) e.user_id, e.member
                from headcount.events e
                where e.room_id = p_room and e.version > v_version - 5000 and e.version <= v_version
                  and e.user_id = any (v_missing)
                order by e.user_id, e.version desc
            ) l
        );
        v_then := v_then || v_found;
        v_missing := array(select unnest(v_missing) except select jsonb_object_keys(v_found));
        v_version := v_version - 5000;
    end loop;

    return query
    select
        w.user_id,
        coalesce(m.past ->> 'name', m.later ->> 'name', p.name, w.user_id),
        case
            when m.past is not null then m.past ->> 'avatar_url'
            when m.later is not null then m.later ->> 'avatar_url'
            else p.avatar_url
        end,
        m.past ->> 'status', m.past -> 'state', (coalesce(m.past, m.later) ->> 'joined_at')::timestamptz,
        m.past is not null
    from unnest(v_users) with ordinality w (user_id, n)
    cross join lateral (
        select nullif(v_then -> w.user_id, 'null') as past, nullif(v_later -> w.user_id, 'null') as later
        offset 0
    ) m
    left join headcount.users p on p.user_id = w.user_id
    order by w.n;
end
$$;
comment on function headcount.members_at is
    'Who was in a room at a time, by user id. Where not exact, the log no longer says what they looked like: status and state are null, name and avatar are what is known of them since.';

-- When users were in a room, cut to a range.
create or replace function headcount.stays_within(
    p_room text, p_since timestamptz, p_until timestamptz, p_user text default null
)
returns table (user_id text, since timestamptz, until timestamptz)
language plpgsql stable
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_version bigint := headcount.version_at(p_room, p_since);
begin
    return query
    with log as materialized (
        select
            e.user_id, e.version, e.kind, e.at,
            row_number() over (partition by e.user_id order by e.version) as n
        from headcount.events e
        where e.room_id = p_room and e.version > v_version and (p_user is null or e.user_id = p_user)
    ), steps as (
        -- Who was there already: their first event since is no `joined`, or they have none and are there now.
        select l.user_id, 0::bigint as version, 'there' as kind, p_since as at
        from log l
        where l.n = 1 and l.kind <> 'joined'
        union all
        select r.user_id, 0, 'there', p_since
        from headcount.rosters r
        where r.room_id = p_room and (p_user is null or r.user_id = p_user)
          and not exists (select from log l where l.user_id = r.user_id)
        union all
        select l.user_id, l.version, l.kind, l.at
        from log l
        where l.kind <> 'updated'
    ), paired as (
        select s.user_id, s.kind, s.at, lead(s.at) over (partition by s.user_id order by s.version) as left_at
        from steps s
    )
    select p.user_id, greatest(p.at, p_since), least(p.left_at, p_until)
    from paired p
    where p.kind <> 'left' and p.at < p_until and greatest(p.at, p_since) < coalesce(p.left_at, p_until);
end
$$;

create or replace function headcount.attendance(
    p_room text, p_from timestamptz, p_to timestamptz, p_user text default null, p_tz text default 'UTC'
)
returns table (user_id text, day date, minutes numeric) language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_known record := headcount.known_range(p_from, p_to);
begin
    perform p_from at time zone p_tz; -- fails for what is none, also where nobody was
    return query
    select s.user_id, d.day::date, round((sum(extract(epoch from d.until - d.since)) / 60)::numeric, 2)
    from headcount.stays_within(p_room, v_known.since, v_known.until, p_user) s
    cross join lateral (
        select
            g.day,
            greatest(s.since, g.day at time zone p_tz) as since,
            least(s.until, (g.day + interval '1 day') at time zone p_tz) as until
        from generate_series(
            date_trunc('day', s.since at time zone p_tz), s.until at time zone p_tz, interval '1 day'
        ) g (day)
    ) d
    where d.since < d.until
    group by s.user_id, d.day
    order by s.user_id, d.day;
end
$$;
comment on function headcount.attendance is
    'Minutes of every user in a room for each day of a time zone. What the log does not hold any more, and what is not over, does not count.';

-- How many members a room had: at the beginning of a range, and after each event within it.
create or replace function headcount.counts_within(p_room text, p_since timestamptz, p_until timestamptz)
returns table (version bigint, at timestamptz, count bigint)
language plpgsql stable
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_version bigint := headcount.version_at(p_room, p_since);
begin
    return query
    with log as materialized (
        select e.version, e.at, case e.kind when 'joined' then 1 else -1 end as step
        from headcount.events e
        where e.room_id = p_room and e.version > v_version and e.kind <> 'updated'
    ), first as (
        select
            coalesce((select r.member_count from headcount.rooms r where r.room_id = p_room), 0)
                - coalesce((select sum(l.step) from log l), 0) as count
    )
    select 0::bigint, p_since, f.count from first f
    union all
    select l.version, greatest(l.at, p_since), f.count + sum(l.step) over (order by l.version)
    from log l
    cross join first f
    where l.at < p_until;
end
$$;

create or replace function headcount.peak_occupancy(p_room text, p_from timestamptz, p_to timestamptz)
returns table (count bigint, at timestamptz) language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_known record := headcount.known_range(p_from, p_to);
begin
    return query
    select c.count, c.at
    from headcount.counts_within(p_room, v_known.since, v_known.until) c
    order by c.count desc, c.version
    limit 1;
end
$$;
comment on function headcount.peak_occupancy is 'The most members that a room had at once within a range, and when it first had so many.';

create or replace function headcount.occupancy(
    p_room text, p_from timestamptz, p_to timestamptz, p_bucket interval default '1 h'
)
returns table (at timestamptz, count bigint) language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_known record := headcount.known_range(p_from, p_to);
begin
    if p_bucket < interval '1 s' then
        raise 'a bucket is a second or more' using errcode = 'invalid_parameter_value';
    end if;
    return query
    with binned as (
        select
            date_bin(p_bucket, c.at, p_from) as at, max(c.count) as most,
            (array_agg(c.count order by c.version desc))[1] as last
        from headcount.counts_within(p_room, v_known.since, v_known.until) c
        group by 1
    ), run as (
        select g.at, b.most, b.last, count(b.last) over (order by g.at) as n
        from generate_series(date_bin(p_bucket, v_known.since, p_from), v_known.until, p_bucket) g (at)
        left join binned b on b.at = g.at
        where g.at < v_known.until
    ), carried as (
        select r.at, r.most, first_value(r.last) over (partition by r.n order by r.at) as last from run r
    )
    select c.at, greatest(c.most, lag(c.last) over (order by c.at)) from carried c order by c.at;
end
$$;
comment on function headcount.occupancy is
    'The most members that a room had at once in each bucket of a range. Buckets begin at p_from; those that the log does not reach back to are left out.';

create or replace view headcount.stays as
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

create or replace view headcount.whereabouts as
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

-- Rights, as in 0006.
revoke execute on all functions in schema headcount from public;

commit;
