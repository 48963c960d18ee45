-- How a change becomes history. Every writing function has the same shape:
--   lock; remember the members it touches; change rows; log the differences; announce.
-- Locks, always in this order: users by key, rooms by key, presence by key, memberships by key.
--
-- Every look-up of a batch leaves the planner one way, because a plan is kept from when a table had one row until
-- it has a million, and a plain join of one row is quickest by reading the whole table:
--   `x.key = any (array[b.key])` is no join condition; it can only be answered through the index, row by row;
--   locks are taken by `lateral (... for update)` in the order of a sorted list, not by sorting what was found;
--   a sub-select ends in `offset 0`, so that it is not turned into a join.

-- An epoch names a history whose versions are comparable. Its first 8 characters change with the database,
-- the cluster, or the timeline (failover, point-in-time restore); the rest is the generation in which the
-- room was created, so that a room which was forgotten and created again never repeats a version.
-- plpgsql where plain SQL would do, here and below: it keeps its plans, and an SQL function is planned at every call.
create function headcount.lineage() returns text language plpgsql stable as $$
begin
    return (
        select left(md5(l.salt::text || c.system_identifier || left(pg_walfile_name(pg_current_wal_lsn()), 8)), 8)
        from headcount.lineage l, pg_control_system() c
    );
end
$$;

create function headcount.epoch() returns text language plpgsql stable as $$
begin
    return (select headcount.lineage() || to_hex(l.generation) from headcount.lineage l);
end
$$;
comment on function headcount.epoch is 'The epoch of a room created now.';

create function headcount.new_lineage() returns void language sql as $$
    update headcount.lineage set salt = gen_random_uuid()
$$;
comment on function headcount.new_lineage is
    'Run once after a restore that kept cluster and timeline (a copied volume): every watcher gets a fresh snapshot.';

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
group by m.room_id, m.user_id, m.invisible, u.user_id; -- the key of users: names need no comparing
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

create function headcount.member(p_roster headcount.rosters) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'id', p_roster.user_id,
        'name', p_roster.name,
        'avatar_url', p_roster.avatar_url,
        'status', p_roster.status,
        'state', p_roster.state,
        'sessions', p_roster.sessions,
        'joined_at', to_char(p_roster.joined_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    )
$$;
comment on function headcount.member is 'A member as the API shows it.';

create function headcount.unseen_member(p_unseen headcount.unseen) returns jsonb language sql stable as $$
    select headcount.member((
        p_unseen.room_id, p_unseen.user_id, p_unseen.name, p_unseen.avatar_url, p_unseen.status,
        p_unseen.state, p_unseen.sessions, p_unseen.joined_at, p_unseen.last_seen
    )::headcount.rosters) || '{"invisible": true}'
$$;
comment on function headcount.unseen_member is
    'The same, for the user themselves and the application''s servers.';

create type headcount.room_version as (room_id text, version bigint);

-- locks: rooms in key order, creating those that are new.
-- One pass for both: two passes would be two orders, and a room could be forgotten between them. `where false`
-- locks what is there and leaves it as it is.
create function headcount.create_rooms(p_rooms text[]) returns void language plpgsql as $$
begin
    insert into headcount.rooms as r (room_id, epoch)
    select wanted.room_id, e.epoch
    from (select distinct unnest(p_rooms) collate "C" as room_id) wanted, headcount.epoch() as e (epoch)
    order by wanted.room_id
    on conflict (room_id) do update set epoch = r.epoch where false;
end
$$;

-- The same, but does not wait for somebody who is creating one of them and has not committed. Gives whether it
-- has them. All or none, because only a sub-transaction can stop waiting, and one for each would be dear.
create function headcount.try_create_rooms(p_rooms text[]) returns boolean language plpgsql
set lock_timeout = '10 ms'
as $$
begin
    perform headcount.create_rooms(p_rooms);
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- locks: rooms in key order, creating those in p_create. Gives their versions under the lock.
-- Without p_wait a room that somebody holds is left out.
create function headcount.lock_rooms(p_rooms text[], p_create text[] default '{}', p_wait boolean default true)
returns headcount.room_version[] language plpgsql as $$
declare
    v_given  text[] := array(select distinct unnest(p_rooms));
    v_locked headcount.room_version[];
    v_new    text[];
begin
    if p_wait then
        v_new := array(
            select unnest(p_create)
            union
            select r.room_id from headcount.rooms r where r.room_id = any (v_given)
        );
        perform headcount.create_rooms(v_new);
    else
        v_locked := array(
            select (r.room_id, r.version)::headcount.room_version
            from (select unnest(v_given) collate "C" as room_id order by room_id) given
            cross join lateral (
                select r.room_id, r.version from headcount.rooms r
                where r.room_id = given.room_id
                for update skip locked
            ) r
        );
        if cardinality(v_locked) = cardinality(v_given) then
            return v_locked; -- nearly always
        end if;
        v_new := array(
            select unnest(p_create)
            except
            select r.room_id from headcount.rooms r where r.room_id = any (p_create)
        );
        if v_new = '{}' or not headcount.try_create_rooms(v_new) then
            return v_locked;
        end if;
    end if;
    return v_locked || array(
        select (r.room_id, r.version)::headcount.room_version from headcount.rooms r where r.room_id = any (v_new)
    );
end
$$;

-- One notification per transaction, last: pairs `room:version`, in payloads well under the 8000 bytes that
-- Postgres allows. A hint only; the log is the truth.
create function headcount.notify_rooms(p_moved headcount.room_version[]) returns void language plpgsql as $$
begin
    perform pg_notify('headcount', string_agg(changed.pair, ' '))
    from (
        select
            m.room_id || ':' || m.version as pair,
            sum(length(m.room_id) + 21) over (order by m.room_id) / 7000 as payload
        from unnest(p_moved) m
    ) changed
    group by changed.payload;
end
$$;

-- Tells of the rooms that have moved since they were locked.
create function headcount.announce(p_locked headcount.room_version[]) returns void language plpgsql as $$
begin
    perform headcount.notify_rooms(array(
        select (r.room_id, r.version)::headcount.room_version
        from unnest(p_locked) l
        cross join lateral (
            select r.room_id, r.version from headcount.rooms r
            where r.room_id = l.room_id and r.version > l.version
            offset 0
        ) r
    ));
end
$$;

-- The same, by whom it is known where they are now.
create function headcount.announce(p_locked headcount.room_version[], p_moved headcount.room_version[])
returns void language plpgsql as $$
begin
    perform headcount.notify_rooms(p_moved);
end
$$;

-- A member whose row a command is about to change: what it was before, null for nobody (which is what an invisible
-- one is, here and in the log), the last sign of life then, and what it will be, where that is known already: JSON's null
-- for nobody at all.
create type headcount.touched as (
    ord integer, room_id text, user_id text, before jsonb, reason text, last_seen timestamptz, after jsonb
);

create type headcount.touch as (ord integer, room_id text, user_id text, reason text);

-- The sub-select ends in `offset 0` so that the planner looks members up one by one: without it the
-- grouped view would be computed for every room and then joined.
create function headcount.remember(p_touches headcount.touch[]) returns headcount.touched[]
language plpgsql stable as $$
begin
    return (
        select array_agg((t.ord, t.room_id, t.user_id, m.member, t.reason, m.last_seen, null)::headcount.touched)
        from unnest(p_touches) t
        left join lateral (
            select headcount.member(r) as member, r.last_seen
            from headcount.rosters r
            where r.room_id = t.room_id and r.user_id = t.user_id
            offset 0
        ) m on true
    );
end
$$;

-- Compares what was remembered with what is now, and logs each difference as one event.
-- needs: the rooms locked, and the users of those who leave. Gives every touched member as they see themselves now,
-- null for nobody.
create function headcount.log_changes(p_touched headcount.touched[])
returns table (ord integer, room_id text, created boolean, member jsonb)
language plpgsql as $$
#variable_conflict use_column
begin
    return query
    with compared as materialized (
        select
            t.ord, t.room_id, t.user_id, t.before, t.reason, t.last_seen,
            nullif(coalesce(t.after, m.member), 'null') as after, t.after = 'null' as gone
        from unnest(p_touched) t
        left join lateral (
            select headcount.member(r) as member
            from headcount.rosters r
            where t.after is null and r.room_id = t.room_id and r.user_id = t.user_id
            offset 0
        ) m on true
    ), change as materialized (
        select
            c.*,
            case when c.before is null then 'joined' when c.after is null then 'left' else 'updated' end as kind,
            row_number() over (partition by c.room_id order by c.ord) as n
        from compared c
        where case
            when c.before is null or c.after is null then c.before is distinct from c.after
            else c.before - '{sessions,joined_at}'::text[] <> c.after - '{sessions,joined_at}'::text[]
        end
    ), logged as (
        insert into headcount.events (room_id, version, kind, user_id, member, reason)
        select c.room_id, r.version + c.n, c.kind, c.user_id, c.after, case when c.kind = 'left' then c.reason end
        from change c
        join headcount.rooms r on r.room_id = any (array[c.room_id])
    ), counted as (
        update headcount.rooms r
        set version = r.version + c.events,
            member_count = r.member_count + c.gain,
            epoch = c.lineage || substr(r.epoch, 9)
        from (
            select
                room_id,
                count(*) as events,
                count(*) filter (where kind = 'joined') - count(*) filter (where kind = 'left') as gain,
                (select headcount.lineage()) as lineage
            from change
            group by room_id
        ) c
        where r.room_id = any (array[c.room_id])
    ), seen as (
        update headcount.users u
        set last_seen_at = c.last_seen
        from (
            select user_id, max(last_seen) as last_seen from change where kind = 'left' group by user_id
        ) c
        where u.user_id = any (array[c.user_id]) and (u.last_seen_at >= c.last_seen) is not true
    )
    select
        c.ord, c.room_id, c.before is null and c.after is not null,
        case when c.gone is not true then coalesce(c.after, (
            select headcount.unseen_member(u)
            from headcount.unseen u
            where u.room_id = c.room_id and u.user_id = c.user_id
            offset 0
        )) end
    from compared c;
end
$$;
