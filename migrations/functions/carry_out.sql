-- Carries out the `ok` commands of a wave, in which no two are about the same user in the same room. A statement that
-- would do nothing is not begun: that alone is dearer than what it would do for one command.
-- needs: users, rooms and sessions locked.
create or replace function headcount.carry_out(p_wave headcount.command[], p_now timestamptz)
returns void language plpgsql as $$
declare
    v_any record;
begin
    select
        bool_or(c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0')) as kept,
        bool_or(c.op = 'join' and c.outcome = 'ok' and not c.known) as added,
        bool_or(c.op in ('leave', 'kick')) as ended
    into v_any
    from unnest(p_wave) c;

    if v_any.kept then
        update headcount.memberships m
        set status = coalesce(c.status, m.status),
            state = coalesce(c.state, m.state),
            changed_at = case when c.state is null then m.changed_at else clock_timestamp() end,
            invisible = coalesce(c.invisible, m.invisible),
            -- Who shows themselves joins now: since when they were there unseen is not told.
            joined_at = case
                when m.invisible and not c.invisible then coalesce(c.seen_from, p_now)
                else m.joined_at
            end,
            seq = greatest(m.seq, c.seq),
            leaving_at = case c.op when 'leave' then p_now + c.grace when 'join' then null else m.leaving_at end
        from unnest(p_wave) c
        where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id])
          and m.session_id = any (array[c.session_id])
          and c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0');
    end if;

    if v_any.added then
        insert into headcount.memberships
            (room_id, user_id, session_id, status, state, invisible, seq, joined_at, changed_at)
        select
            c.room_id, c.user_id, c.session_id, coalesce(c.status, 'online'), c.state, coalesce(c.invisible, false),
            coalesce(c.seq, 0),
            coalesce(case when c.invisible is not true then c.seen_from end, p_now),
            clock_timestamp()
        from unnest(p_wave) c
        where c.op = 'join' and c.outcome = 'ok' and not c.known
        order by c.room_id, c.user_id, c.session_id;
    end if;

    if v_any.ended then
        with departed as (
            delete from headcount.memberships m
            using unnest(p_wave) c
            where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id]) and c.outcome = 'ok'
              and (c.op = 'kick' or c.op = 'leave' and c.grace <= '0' and m.session_id = c.session_id)
            returning m.session_id, m.room_id, m.user_id, greatest(m.seq, c.seq) as seq, c.op = 'kick' as kicked
        ), early as (
            -- A leave that overtook its join is remembered, so that the join is ignored when it comes. Once for a
            -- session that several users claim, or the insert would fail, and the whole batch with it.
            select distinct on (c.session_id, c.room_id) c.session_id, c.room_id, c.user_id, c.seq, false
            from unnest(p_wave) c
            where c.op = 'leave' and c.outcome = 'absent' and c.seq is not null
            order by c.session_id, c.room_id, c.ord
        )
        insert into headcount.departures as d (session_id, room_id, user_id, seq, kicked)
        select * from departed union all select * from early
        on conflict (session_id, room_id) do update
        set seq = greatest(d.seq, excluded.seq), kicked = excluded.kicked, left_at = excluded.left_at;
    end if;
end
$$;

-- Leases
--
-- A lease is a session's, and a session may be in many rooms: it has the shortest of theirs, so that no room keeps
-- anybody longer than it says. It is found when the session joins or updates, and kept in its row, where its heartbeats
-- find it: they look at nothing else, with settings and without. So a session goes by what was set when it last joined.

-- Renews the sessions of the `ok` joins and updates. Once for the whole batch, because which command is the last
-- to say whether a session is visible does not depend on waves. For a room about which the settings say nothing
-- counts what the command has. needs: the sessions locked.
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

-- A session whose last membership is gone is gone. needs: the sessions locked.
create or replace function headcount.end_sessions(p_sessions uuid[]) returns void language plpgsql as $$
begin
    delete from headcount.presence p
    where p.session_id = any (p_sessions)
      and not exists (select from headcount.memberships m where m.session_id = p.session_id offset 0);
end
$$;

-- The short way of the joins that have nothing to be compared with: a session that this batch made (p_created, each with
-- whose it is), of a user who is not in the room yet. What they are and what happens follows from the command alone, so
-- they are members, events and versions in one statement, and each row is looked up once. It is what nearly all joins are,
-- and a third cheaper than the way that knows everything (decide, apply_wave). Gives those it admitted; of the others
-- nothing is done, nor of any but the first about a user in a room.
-- needs: users and rooms locked.
--
-- Joins of one list with another are by hash, and plain: the planner takes lists for short, and would compare each with
-- each. Look-ups in tables are the index's, as everywhere.
create or replace function headcount.admit_newcomers(
    p_commands headcount.command[], p_created uuid[], p_owners text[], p_now timestamptz
)
returns headcount.admitted[] language plpgsql
set enable_hashjoin = on
set enable_nestloop = off
as $$
declare
    v_lineage text := headcount.lineage();
    v_now     text := to_char(p_now at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
    -- What is said of a session's visibility last counts, and is found out by looking at all that is said of it.
    v_hidden  uuid[] := array(select c.session_id from unnest(p_commands) c where c.visible = false);
    v_given   headcount.admitted[];
begin
    with newcomer as materialized (
        select
            c.ord, c.room_id, c.user_id, c.session_id, c.seq, coalesce(c.status, 'online') as status, c.state,
            row_number() over (partition by c.room_id order by c.ord) as n,
            -- As headcount.member has it. Texts alone are four times as quick to put together.
            jsonb_object(
                '{id, name, avatar_url, status, joined_at}',
                array[c.user_id, u.name, u.avatar_url, coalesce(c.status, 'online'), v_now]
            ) || case
                when c.state is null then '{"state": {}, "sessions": 1}'
                else jsonb_build_object('state', c.state, 'sessions', 1)
            end as member
        from unnest(p_commands) c
        join unnest(p_created, p_owners) s (session_id, user_id) on s.session_id = c.session_id and s.user_id = c.user_id
        cross join lateral (
            select u.name, u.avatar_url from headcount.users u where u.user_id = c.user_id offset 0
        ) u
        where c.op = 'join' and c.wave = 1 and c.invisible is not true
          and c.session_id <> all (v_hidden)
          and not exists (
              select from headcount.memberships m where m.room_id = c.room_id and m.user_id = c.user_id offset 0
          )
          and (c.seq is null or not exists (
              select from headcount.departures d
              where d.session_id = c.session_id and d.room_id = c.room_id and d.seq > c.seq
              offset 0
          ))
    ), present as (
        insert into headcount.memberships (room_id, user_id, session_id, status, state, seq, joined_at, changed_at)
        select c.room_id, c.user_id, c.session_id, c.status, c.state, coalesce(c.seq, 0), p_now, clock_timestamp()
        from newcomer c
        order by c.room_id, c.user_id
    ), moved as (
        update headcount.rooms r
        set version = r.version + c.events,
            member_count = r.member_count + c.events,
            epoch = v_lineage || substr(r.epoch, 9)
        from (select room_id, count(*) as events from newcomer group by room_id) c
        where r.room_id = any (array[c.room_id])
        returning r.room_id, r.epoch, r.version, r.version - c.events as before
    ), logged as (
        insert into headcount.events (room_id, version, kind, user_id, member)
        select c.room_id, r.before + c.n, 'joined', c.user_id, c.member
        from newcomer c
        join moved r on r.room_id = c.room_id
    )
    select array_agg((c.ord, c.room_id, r.epoch, r.version, c.member)::headcount.admitted) into v_given
    from newcomer c
    join moved r on r.room_id = c.room_id;
    return coalesce(v_given, '{}');
end
$$;
