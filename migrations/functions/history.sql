-- Replays, and questions about the past.

-- Replay. For each position whose room has moved since: its number, the room's head, and the events after it, oldest
-- first, all from one snapshot. Only rooms that have moved are looked up in the log; the others cost one look at their row.
-- A room that nobody has joined yet is at version 0 of the epoch it would be created with.
--
-- With p_recent only the partitions of yesterday to tomorrow are read. Older events are left out, and the caller sees a gap
-- in the versions. Nearly every replay lacks seconds only, and months of partitions would make all of them slow.
--
-- The planner settings are needed: the partition of a new day is empty when the plan is made, and a scan of an empty table
-- looks cheapest.
create or replace function headcount.tails(
    p_rooms text[], p_epochs text[], p_versions bigint[], p_limit bigint, p_recent boolean default false
)
returns table (
    n bigint, epoch text, head bigint, version bigint, kind text, user_id text, member jsonb, reason text,
    age double precision
)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
#variable_conflict use_column
declare
    v_today timestamp := date_trunc('day', clock_timestamp() at time zone 'UTC');
    v_from  timestamptz := case when p_recent then (v_today - interval '1 day') at time zone 'UTC' else '-infinity' end;
    v_until timestamptz := case when p_recent then (v_today + interval '2 days') at time zone 'UTC' else 'infinity' end;
    v_erased text[]     := array(select x.user_id from headcount.erasures x); -- nearly always nobody
begin
    return query
    select
        m.n, m.epoch, m.head, e.version, e.kind, e.user_id,
        case when e.user_id = any (v_erased) and headcount.is_erased(e.user_id, e.at) then null else e.member end, e.reason,
        extract(epoch from clock_timestamp() - e.at)::float8
    from (
        select
            w.n, w.room_id,
            coalesce(headcount.epoch_in(l.lineage, r.epoch), l.epoch) as epoch,
            coalesce(r.version, 0) as head,
            case when w.epoch = headcount.epoch_in(l.lineage, r.epoch) then w.version end as reached
        from unnest(p_rooms, p_epochs, p_versions) with ordinality w (room_id, epoch, version, n)
        cross join (select headcount.lineage() as lineage, headcount.epoch() as epoch offset 0) l
        left join headcount.rooms r on r.room_id = any (array[w.room_id])
        where w.epoch <> coalesce(headcount.epoch_in(l.lineage, r.epoch), l.epoch) or w.version <> coalesce(r.version, 0)
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
-- The log is undone backwards from the roster of now. A member without an event since was there, as the roster says. For
-- any other user the first event since tells whether they were there before. That is exact as long as the log is complete,
-- also for members who joined before the log begins; a replay from its beginning would miss them. How they looked then is
-- in their last event before, if the log still holds it.
--
-- A time includes the events at it. Where the clock went back, "then" is just before the first event of a later time.

-- The room's version as of a time.
create or replace function headcount.version_at(p_room text, p_at timestamptz) returns bigint language plpgsql stable
set headcount.planner = 'no_scans'
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
set headcount.planner = 'no_scans'
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
        v_from, clock_timestamp(), coalesce(headcount.epoch_in(headcount.lineage(), v_room.epoch), headcount.epoch()),
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

-- Cuts a range to what the log still holds and to what is over.
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
set headcount.planner = 'no_scans'
as $$
#variable_conflict use_column
declare
    v_version bigint;
    v_there   record;
    v_then    jsonb; -- by user, the member as of then
begin
    perform headcount.must_reach(p_at);
    v_version := headcount.version_at(p_room, p_at);
    select * into v_there from headcount.there_at(p_room, v_version, p_after, p_limit);
    v_then := v_there.unchanged || headcount.last_seen_as(p_room, v_version, v_there.changed);
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
    from unnest(v_there.users) with ordinality w (user_id, n)
    cross join lateral (
        select nullif(v_then -> w.user_id, 'null') as past, nullif(v_there.later -> w.user_id, 'null') as later
        offset 0
    ) m
    left join headcount.users p on p.user_id = w.user_id
    order by w.n;
end
$$;
comment on function headcount.members_at is
    'Who was in a room at a time, by user id. Where not exact, the log no longer says what they looked like: status and state are null, name and avatar are what is known of them since.';

-- The users in a room at a version. For users without an event since: the member (unchanged). For the others (changed):
-- what is first known of them after (later).
create or replace function headcount.there_at(
    p_room text, p_version bigint, p_after text, p_limit bigint,
    out users text[], out unchanged jsonb, out later jsonb, out changed text[]
)
language plpgsql stable as $$
#variable_conflict use_column
declare
    v_erased text[] := array(select x.user_id from headcount.erasures x); -- nearly always nobody
begin
    with firsts as materialized (
        select distinct on (e.user_id)
            e.user_id, e.kind,
            case when e.user_id = any (v_erased) and headcount.is_erased(e.user_id, e.at) then null else e.member end as member
        from headcount.events e
        where e.room_id = p_room and e.version > p_version
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
    into users, unchanged, later, changed
    from present p;
end
$$;

-- What the log last says of these users up to a version, by user. One walk back for all of them, in steps of 5000
-- versions, so that it ends soon after the last of them is found.
create or replace function headcount.last_seen_as(p_room text, p_version bigint, p_users text[]) returns jsonb
language plpgsql stable as $$
declare
    v_oldest  bigint := (select e.version from headcount.events e where e.room_id = p_room order by e.version limit 1);
    v_members jsonb := '{}';
    v_found   jsonb;
    v_erased  text[] := array(select x.user_id from headcount.erasures x); -- nearly always nobody
begin
    while p_users <> '{}' and p_version >= v_oldest loop
        v_found := (
            select coalesce(jsonb_object_agg(l.user_id, l.member), '{}')
            from (
                select distinct on (e.user_id)
                    e.user_id,
                    case when e.user_id = any (v_erased) and headcount.is_erased(e.user_id, e.at) then null else e.member end as member
                from headcount.events e
                where e.room_id = p_room and e.version > p_version - 5000 and e.version <= p_version
                  and e.user_id = any (p_users)
                order by e.user_id, e.version desc
            ) l
        );
        v_members := v_members || v_found;
        p_users := array(select unnest(p_users) except select jsonb_object_keys(v_found));
        p_version := p_version - 5000;
    end loop;
    return v_members;
end
$$;

-- When users were in a room, cut to a range.
create or replace function headcount.stays_within(
    p_room text, p_since timestamptz, p_until timestamptz, p_user text default null
)
returns table (user_id text, since timestamptz, until timestamptz)
language plpgsql stable
set headcount.planner = 'no_scans'
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
        -- Users who were there already: their first event since is no `joined`, or they have none and are there now.
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
set headcount.planner = 'no_scans'
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
