-- What an `ok` command does to the rows.

-- Makes the sessions of joins that have none. A new session belongs to whoever used it first, also when that was in a
-- room they have left. A join that its own leave overtook makes no session. Marks the joins that made one.
-- needs: users and rooms locked. locks: the sessions that it makes.
create or replace function headcount.open_sessions(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns headcount.verdict[] language plpgsql
set headcount.planner = 'joins_lists'
as $$
begin
    if not exists (select from unnest(p_commands) c where c.op = 'join') then
        return p_verdicts;
    end if;
    with opened as (
        insert into headcount.presence (session_id, user_id, lease, last_active, last_seen)
        select distinct on (c.session_id) c.session_id, c.user_id, c.lease, p_now, p_now
        from unnest(p_commands, p_verdicts) c
        where c.op = 'join' and c.outcome is null
          and not exists (
              select from headcount.departures d
              where d.session_id = c.session_id
                and (d.user_id <> c.user_id or d.room_id = c.room_id and c.seq < d.seq)
              offset 0
          )
        order by c.session_id, c.ord
        on conflict (session_id) do nothing
        returning session_id, user_id
    )
    select array_agg((
        c.outcome, o.session_id is not null, null, null, null, null, null, null, null, null, null
    )::headcount.verdict order by c.ordinality)
    into p_verdicts
    from unnest(p_commands, p_verdicts) with ordinality c
    left join opened o
        on c.op = 'join' and c.outcome is null and o.session_id = c.session_id and o.user_id = c.user_id;
    return p_verdicts;
end
$$;

-- locks: the sessions that the undecided commands touch, in key order, but those that this batch made. Gives them.
create or replace function headcount.lock_sessions(p_commands headcount.command[], p_verdicts headcount.verdict[])
returns uuid[] language plpgsql as $$
declare
    v_sessions uuid[] := array(
        select distinct s.session_id
        from unnest(p_commands, p_verdicts) c
        cross join lateral (
            select c.session_id where c.opened is not true and c.session_id is not null
            union all
            select m.session_id from headcount.memberships m
            where c.op = 'kick' and m.room_id = c.room_id and m.user_id = c.user_id
            offset 0
        ) s
        where c.outcome is null
    );
begin
    if v_sessions <> '{}' then
        perform from (select unnest(v_sessions) as session_id order by session_id) given
        cross join lateral (
            select from headcount.presence p where p.session_id = given.session_id for update
        ) p;
    end if;
    return v_sessions;
end
$$;

-- Carries out the `ok` commands of a wave, in which no two are about the same user in the same room. A statement that
-- would find nothing is not begun: that alone is dearer than what it would do for one command.
-- needs: users, rooms and sessions locked.
create or replace function headcount.carry_out(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns void language plpgsql as $$
declare
    v_any record;
begin
    select
        bool_or(c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0')) as stays,
        bool_or(c.op = 'join' and c.outcome = 'ok' and not c.known) as added,
        bool_or(c.op in ('leave', 'kick') and c.outcome in ('ok', 'absent')) as ended
    into v_any
    from unnest(p_wave, p_verdicts) c;
    if v_any.stays then
        perform headcount.change_memberships(p_wave, p_verdicts, p_now);
    end if;
    if v_any.added then
        insert into headcount.memberships
            (room_id, user_id, session_id, status, state, invisible, seq, joined_at, changed_at)
        select
            c.room_id, c.user_id, c.session_id, c.status, c.state, coalesce(c.invisible, false),
            coalesce(c.seq, 0),
            coalesce(case when c.invisible is not true then c.seen_from end, p_now),
            clock_timestamp()
        from unnest(p_wave, p_verdicts) c
        where c.op = 'join' and c.outcome = 'ok' and not c.known
        order by c.room_id, c.user_id, c.session_id;
    end if;
    if v_any.ended then
        perform headcount.end_memberships(p_wave, p_verdicts);
    end if;
end
$$;

-- Joins that repeat, updates, and leaves with grace. needs: as carry_out.
create or replace function headcount.change_memberships(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns void language plpgsql as $$
begin
    update headcount.memberships m
    set status = coalesce(c.status, m.status),
        state = coalesce(c.state, m.state),
        changed_at = case when c.state is null then m.changed_at else clock_timestamp() end,
        invisible = coalesce(c.invisible, m.invisible),
        -- A member who shows themselves joins now: since when they were there unseen is not told.
        joined_at = case
            when m.invisible and not c.invisible then coalesce(c.seen_from, p_now)
            else m.joined_at
        end,
        seq = greatest(m.seq, c.seq),
        leaving_at = case c.op when 'leave' then p_now + c.grace when 'join' then null else m.leaving_at end
    from unnest(p_wave, p_verdicts) c
    where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id])
      and m.session_id = any (array[c.session_id])
      and c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0');
end
$$;

-- Leaves and kicks. A leave that overtook its join is remembered, so that the join is ignored when it comes. Once for a
-- session that several users claim, or the insert would fail, and the whole batch with it. needs: as carry_out.
create or replace function headcount.end_memberships(p_wave headcount.command[], p_verdicts headcount.verdict[])
returns void language plpgsql as $$
begin
    with departed as (
        delete from headcount.memberships m
        using unnest(p_wave, p_verdicts) c
        where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id]) and c.outcome = 'ok'
          and (c.op = 'kick' or c.op = 'leave' and c.grace <= '0' and m.session_id = c.session_id)
        returning m.session_id, m.room_id, m.user_id, greatest(m.seq, c.seq) as seq, c.op = 'kick' as kicked
    ), early as (
        select distinct on (c.session_id, c.room_id) c.session_id, c.room_id, c.user_id, c.seq, false
        from unnest(p_wave, p_verdicts) c
        where c.op = 'leave' and c.outcome = 'absent' and c.seq is not null
        order by c.session_id, c.room_id, c.ord
    )
    insert into headcount.departures as d (session_id, room_id, user_id, seq, kicked)
    select * from departed union all select * from early
    on conflict (session_id, room_id) do update
    set seq = greatest(d.seq, excluded.seq), kicked = excluded.kicked, left_at = excluded.left_at;
end
$$;

-- Ends the sessions that the batch leaves without a membership: among those that it locked, and among those that it made,
-- for joins that were refused or kicked out again. needs: the sessions locked.
create or replace function headcount.end_unused_sessions(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_locked uuid[]
)
returns void language plpgsql as $$
declare
    v_any record;
begin
    select bool_or(c.op = 'kick') as kicks, bool_or(c.op <> 'join' or c.outcome <> all ('{ok, admitted}')) as ends
    into v_any
    from unnest(p_commands, p_verdicts) c;
    if v_any.ends then
        perform headcount.end_sessions(p_locked || array(
            select c.session_id from unnest(p_commands, p_verdicts) c
            where c.opened and (c.outcome <> 'admitted' or v_any.kicks)
        ));
    end if;
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
