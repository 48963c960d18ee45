-- Settings of rooms by pattern. A pattern is a room, or the beginning of rooms with `*` after it, as in tokens. For
-- each setting the most precise pattern counts that says something about it: the room itself, then the longest
-- beginning. What no pattern says is as the deployment has it.

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

-- At most 100, because every join looks through them. The payload is no room's: older replicas skip it.
create function headcount.announce_settings() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if (select count(*) from headcount.room_settings) > 100 then
        raise 'at most 100 patterns' using errcode = 'check_violation', hint = 'Remove one first.';
    end if;
    perform pg_notify('headcount', '!settings');
    return null;
end
$$;

create trigger announce_settings after insert or update or delete or truncate on headcount.room_settings
for each statement execute function headcount.announce_settings();

-- The settings of a room: always one row. What is null is as the deployment has it.
create function headcount.settings_of(p_room text)
returns table (lease interval, lease_hidden interval, members_max integer) language sql stable as $$
    select
        (array_agg(s.lease order by s.pattern <> p_room, length(s.pattern) desc) filter (where s.lease is not null))[1],
        (array_agg(s.lease_hidden order by s.pattern <> p_room, length(s.pattern) desc)
            filter (where s.lease_hidden is not null))[1],
        (array_agg(s.members_max order by s.pattern <> p_room, length(s.pattern) desc)
            filter (where s.members_max is not null))[1]
    from headcount.room_settings s
    where s.pattern = p_room or right(s.pattern, 1) = '*' and starts_with(p_room, left(s.pattern, -1))
$$;

-- Replaces what is said about a pattern. Gives false when there are as many patterns as there may be.
create function headcount.put_room_settings(
    p_pattern text, p_lease interval default null, p_lease_hidden interval default null,
    p_coalesce_ms integer default null, p_list_max integer default null, p_members_max integer default null
)
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- Against each other, or two would both find room for one more.
    lock table headcount.room_settings in share row exclusive mode;
    if (select count(*) from headcount.room_settings s where s.pattern <> p_pattern) >= 100 then
        return false;
    end if;
    insert into headcount.room_settings as s (pattern, lease, lease_hidden, coalesce_ms, list_max, members_max)
    values (p_pattern, p_lease, p_lease_hidden, p_coalesce_ms, p_list_max, p_members_max)
    on conflict (pattern) do update
    set lease = excluded.lease, lease_hidden = excluded.lease_hidden, coalesce_ms = excluded.coalesce_ms,
        list_max = excluded.list_max, members_max = excluded.members_max;
    return true;
end
$$;

-- Gives whether there was anything.
create function headcount.remove_room_settings(p_pattern text) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from headcount.room_settings s where s.pattern = p_pattern;
    return found;
end
$$;

-- How many members a room takes

-- The joins of a wave that would be one member too many, in the order of their `ord`, and the updates that would show
-- somebody who is there unseen. A tab more of who is there needs no place; a place that the wave itself gives up is
-- free in the next batch. needs: the rooms locked, so nobody comes in between.
create function headcount.refuse_full(p_wave headcount.command[]) returns headcount.command[]
language plpgsql stable as $$
declare
    v_place bigint;
begin
    for v_place in
        select n.place
        from (
            select
                c.ordinality as place, r.member_count, s.members_max,
                row_number() over (partition by c.room_id order by c.ord) as comes
            from unnest(p_wave) with ordinality c
            cross join lateral (select r.member_count from headcount.rooms r where r.room_id = c.room_id offset 0) r
            cross join lateral (
                select coalesce(c.invisible, bool_or(m.invisible), false) as unseen
                from headcount.memberships m
                where m.room_id = c.room_id and m.user_id = c.user_id and m.session_id = c.session_id
                offset 0
            ) m
            cross join lateral headcount.settings_of(c.room_id) s
            where c.op in ('join', 'update') and c.outcome = 'ok' and c.seen_from is null and not m.unseen
        ) n
        where n.member_count + n.comes > n.members_max
    loop
        p_wave[v_place].outcome := 'room_full';
    end loop;
    return p_wave;
end
$$;

-- Newcomers have a room's settings asked for, where there are any that concern them.
create or replace function headcount.may_admit() returns boolean language plpgsql stable as $$
begin
    return not exists (
        select from headcount.room_settings s
        where s.lease is not null or s.lease_hidden is not null or s.members_max is not null
    );
end
$$;

-- As before (0004), and
--   room_full  it would be one member more than the room takes
create or replace function headcount.decide(p_wave headcount.command[], p_now timestamptz) returns headcount.command[]
language plpgsql stable as $$
declare
    v_leases  boolean := exists (
        select from headcount.room_settings s where s.lease is not null or s.lease_hidden is not null
    );
    v_decided headcount.command[];
begin
    v_decided := (
        select array_agg((
            c.ord, c.op, c.room_id, c.user_id, c.session_id, c.seq, c.name, c.avatar_url, c.status, c.state,
            c.visible, c.invisible, c.lease, c.lease_hidden, c.grace, c.limited, c.wave,
            case
                when c.op = 'kick' then 'ok'
                -- A session that is gone is still its first user's, whichever room they left.
                when c.user_id <> coalesce(
                    p.user_id,
                    (select o.user_id from headcount.departures o where o.session_id = c.session_id limit 1)
                ) then 'foreign'
                when c.seq < greatest(m.seq, d.seq) then 'stale'
                when p.session_id is null and c.op <> 'leave' then 'foreign'
                when m.known is not true and c.op <> 'join' then 'absent'
                else 'ok'
            end,
            coalesce(m.known, false), m.company, m.seen_from, p.idle,
            -- Sessions made by this batch are renewed already, and visible; but their leases may be set.
            p.last_seen <> p_now or p.visible <> c.visible or v_leases
        )::headcount.command order by c.ord)
        from unnest(p_wave) c
        left join headcount.presence p on p.session_id = any (array[c.session_id])
        cross join lateral (
            select
                count(*) > 0 as company,
                bool_or(m.session_id = c.session_id) as known,
                max(m.seq) filter (where m.session_id = c.session_id) as seq,
                min(m.joined_at) filter (where not m.invisible) as seen_from
            from headcount.memberships m
            where m.room_id = c.room_id and m.user_id = c.user_id
            offset 0
        ) m
        left join headcount.departures d
            on c.seq is not null and d.session_id = any (array[c.session_id]) and d.room_id = any (array[c.room_id])
    );
    if exists (select from headcount.room_settings s where s.members_max is not null) then
        v_decided := headcount.refuse_full(v_decided);
    end if;
    return v_decided;
end
$$;

-- As before (0004), with `room_full` among what is refused, and without the trigger of profiles (0009): what is written
-- to users here is no profile, and to find that out took a tenth of what a join by itself does.
create or replace function headcount.apply_wave(p_wave headcount.command[], p_now timestamptz)
returns headcount.answer[] language plpgsql as $$
declare
    v_touched headcount.touched[] := headcount.remember(array(
        select (c.ord, c.room_id, c.user_id, case c.op when 'kick' then 'kicked' else 'left' end)::headcount.touch
        from unnest(p_wave) c
        where c.outcome in ('ok', 'stale') and c.company
    )) || array(
        -- Of who was not there is nothing to remember; and what they are once they have joined is known.
        select (
            c.ord, c.room_id, c.user_id, null, 'left', null,
            case when c.op = 'join' and c.outcome = 'ok' and c.invisible is not true then (
                select headcount.member((
                    c.room_id, c.user_id, u.name, u.avatar_url,
                    case when c.status is distinct from 'dnd' and c.idle then 'idle' else coalesce(c.status, 'online') end,
                    coalesce(c.state, '{}'), 1, p_now, p_now
                )::headcount.rosters)
                from headcount.users u
                where u.user_id = c.user_id
                offset 0
            ) end
        )::headcount.touched
        from unnest(p_wave) c
        where c.outcome in ('ok', 'stale') and not c.company
    );
    v_answers headcount.answer[];
    v_setting text;
begin
    perform headcount.carry_out(p_wave, p_now);
    v_setting := set_config('headcount.within_rules', 'on', true);
    v_answers := array(
        select (l.ord, l.room_id, 'ok', l.created, l.member)::headcount.answer
        from headcount.log_changes(v_touched) l
        union all
        select (c.ord, c.room_id, c.outcome, false, null)::headcount.answer
        from unnest(p_wave) c
        where c.outcome in ('absent', 'foreign', 'room_full')
    );
    v_setting := set_config('headcount.within_rules', '', true);
    return v_answers;
end
$$;

-- Leases
--
-- A lease is a session's, and a session may be in many rooms: it has the shortest of theirs, so that no room keeps
-- anybody longer than it says. It is found when the session joins or updates, and kept in its row, where its heartbeats
-- find it: they look at nothing else, with settings and without. So a session goes by what was set when it last joined.

-- Between two transactions of others: whoever queues behind this for the table waits 150 ms at most.
do $$
declare
    v_before text := current_setting('lock_timeout');
begin
    perform set_config('lock_timeout', '150 ms', true);
    for v_try in 1 .. 400 loop
        begin
            alter table headcount.presence add column lease_visible interval, add column lease_hidden interval;
            perform set_config('lock_timeout', v_before, true);
            return;
        exception when lock_not_available then
            perform pg_sleep(0.2 + random() / 5);
        end;
    end loop;
    raise 'somebody holds headcount.presence all the time: see pg_locks, end the long transaction, and migrate again'
        using errcode = 'lock_not_available';
end
$$;
comment on column headcount.presence.lease_visible is
    'What the settings of its rooms say of its lease while it is visible; null: nothing, it is the deployment''s.';
comment on column headcount.presence.lease_hidden is 'The same while it is hidden.';

-- As before (0004), and with what the settings of the sessions' rooms say. For a room about which they say nothing
-- counts what the command has.
create or replace function headcount.renew_sessions(p_commands headcount.command[], p_now timestamptz)
returns void language plpgsql as $$
begin
    update headcount.presence p
    set last_seen = p_now,
        last_active = p_now,
        visible = coalesce(c.visible, p.visible),
        lease = case when coalesce(c.visible, p.visible) then c.lease else c.lease_hidden end,
        lease_visible = null,
        lease_hidden = null
    from (
        select
            d.session_id,
            (array_agg(d.visible order by d.ord desc) filter (where d.visible is not null))[1] as visible,
            max(d.lease) as lease,
            max(d.lease_hidden) as lease_hidden
        from unnest(p_commands) d
        where d.op in ('join', 'update') and d.outcome = 'ok'
        group by d.session_id
        having bool_or(d.renews)
    ) c
    where p.session_id = any (array[c.session_id]);

    if not exists (select from headcount.room_settings s where s.lease is not null or s.lease_hidden is not null) then
        return;
    end if;
    update headcount.presence p
    set lease_visible = l.visible,
        lease_hidden = greatest(l.visible, l.hidden),
        lease = case when p.visible then l.visible else greatest(l.visible, l.hidden) end
    from (
        select
            c.session_id,
            min(coalesce(s.lease, c.lease)) as visible,
            min(coalesce(s.lease_hidden, c.lease_hidden)) as hidden
        from (
            select d.session_id, max(d.lease) as lease, max(d.lease_hidden) as lease_hidden
            from unnest(p_commands) d
            where d.op in ('join', 'update') and d.outcome = 'ok'
            group by d.session_id
        ) c
        cross join lateral (
            select m.room_id from headcount.memberships m where m.session_id = c.session_id offset 0
        ) m
        cross join lateral headcount.settings_of(m.room_id) s
        group by c.session_id
        having bool_or(s.lease is not null or s.lease_hidden is not null)
    ) l
    where p.session_id = any (array[l.session_id]);
end
$$;

-- As before (0005), but that a session keeps a lease of its own, and that its lease is told. The function gives a column
-- more, so it is another one; who might call the one before may call this one.
alter function headcount.heartbeat(uuid[], text[], boolean[], boolean[], bigint[], interval, interval, interval)
    rename to heartbeat_before;

create function headcount.heartbeat(
    p_sessions uuid[], p_users text[], p_visible boolean[], p_active boolean[], p_seqs bigint[],
    p_lease interval default '45 s', p_lease_hidden interval default '150 s', p_idle_after interval default '5 min'
)
returns table (session_id uuid, user_id text, visible boolean, idle_due boolean, lease interval) language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
begin
    -- An older seq than the newest seen changes nothing, and proves nothing either.
    return query
    update headcount.presence p
    set last_seen = case when b.seq < p.seq then p.last_seen else v_now end,
        last_active = case when b.active and not coalesce(b.seq < p.seq, false) then v_now else p.last_active end,
        visible = case when b.seq < p.seq then p.visible else coalesce(b.visible, p.visible) end,
        lease = case
            when b.seq < p.seq then p.lease
            when coalesce(b.visible, p.visible) then coalesce(p.lease_visible, p_lease)
            else coalesce(p.lease_hidden, p_lease_hidden)
        end,
        seq = greatest(p.seq, b.seq)
    from unnest(p_sessions, p_users, p_visible, p_active, p_seqs) as b (session_id, user_id, visible, active, seq)
    where p.session_id = any (array[b.session_id]) and (b.user_id is null or p.user_id = b.user_id)
    returning p.session_id, p.user_id, p.visible, p.idle <> (p.last_active < v_now - p_idle_after), p.lease;
end
$$;

do $$
declare
    v_role text;
begin
    revoke execute on function headcount.heartbeat from public;
    for v_role in
        select distinct a.grantee::regrole::text
        from pg_proc p, aclexplode(p.proacl) a
        where p.oid = 'headcount.heartbeat_before'::regproc and a.grantee <> 0
    loop
        execute format('grant execute on function headcount.heartbeat to %s', v_role);
    end loop;
end
$$;

drop function headcount.heartbeat_before;

create type headcount.applied as (
    ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb
);

-- What a service calls: apply, and what the session's lease is then, where settings say something about leases; else
-- null. Read after it was written, so that no client is told to beat less often than its session needs.
create function headcount.apply_with_leases(
    p_commands jsonb, p_wait boolean default true,
    p_rooms_max integer default null, p_sessions_max integer default null
)
returns table (
    ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb,
    lease interval, visible boolean
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_applied  headcount.applied[];
    v_sessions jsonb;
begin
    if not exists (select from headcount.room_settings s where s.lease is not null or s.lease_hidden is not null) then
        return query
        select a.ord, a.outcome, a.epoch, a.version, a.created, a.member, null::interval, null::boolean
        from headcount.apply(p_commands, p_wait, p_rooms_max, p_sessions_max) a;
        return;
    end if;
    v_applied := array(
        select (a.ord, a.outcome, a.epoch, a.version, a.created, a.member)::headcount.applied
        from headcount.apply(p_commands, p_wait, p_rooms_max, p_sessions_max) a
    );
    v_sessions := (
        select jsonb_object_agg(c ->> 'ord', c -> 'session_id') from jsonb_array_elements(p_commands) c
    );
    return query
    select a.ord, a.outcome, a.epoch, a.version, a.created, a.member, p.lease, p.visible
    from unnest(v_applied) a
    left join lateral (
        select p.lease, p.visible from headcount.presence p
        where p.session_id = (v_sessions ->> a.ord::text)::uuid
        offset 0
    ) p on true;
end
$$;

revoke execute on function
    headcount.announce_settings, headcount.settings_of, headcount.put_room_settings, headcount.remove_room_settings,
    headcount.refuse_full, headcount.apply_with_leases
    from public;
