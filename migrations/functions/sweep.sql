-- The sweep ends sessions whose lease ran out, and leaves whose grace is over.

-- Records that a sweep runs now, and what an outage or a clock that jumped means for the leases.
-- Gives the locked state, with the time of the previous sweep, or nothing while another replica sweeps.
-- locks: sweep_state; sessions and memberships whose time lies in the future; all skip what is locked.
create or replace function headcount.begin_sweep(p_interval interval) returns setof headcount.sweep_state language plpgsql as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_state headcount.sweep_state;
begin
    select * into v_state from headcount.sweep_state for update skip locked;
    if not found then
        return;
    end if;
    -- Forward gap: heartbeats could not be written either, so every lease starts anew.
    if v_now - v_state.last_sweep_at > 3 * p_interval then
        v_state.leases_from := v_now;
        v_state.recovering := true;
    end if;
    -- The clock went back: a time in the future would keep its row alive that much too long. Locked rows are skipped:
    -- a sweep never waits, and in another order than the lock order it would deadlock.
    if v_now < v_state.last_sweep_at - interval '100 ms' then
        v_state.leases_from := v_now;
        update headcount.memberships m set leaving_at = v_now
        where (m.room_id, m.user_id, m.session_id) in (
            select f.room_id, f.user_id, f.session_id from headcount.memberships f
            where f.leaving_at > v_now
            for update skip locked
        );
    end if;
    -- In every sweep, for the rows that were skipped when the clock went back.
    update headcount.presence p set last_seen = v_now
    where p.session_id = any (array(
        select f.session_id from headcount.presence f
        where f.last_seen > v_now + interval '100 ms'
        for update skip locked
    ));
    update headcount.sweep_state s
    set last_sweep_at = v_now, leases_from = v_state.leases_from, recovering = v_state.recovering;
    return next v_state;
end
$$;

-- One batch of a sweep: ends sessions whose lease ran out and completes leaves whose grace is over.
-- Never waits: a room, user or session that another transaction holds is left for the next batch. A heartbeat that wins
-- the race keeps its session, because the lease is checked again under the lock.
-- p_lease is the shortest lease in use: the index on last_seen is read up to now minus that.
-- locks: sweep_state, users in key order, rooms in key order, sessions in key order; all skip what is locked.
create or replace function headcount.sweep(
    p_interval interval default '1 s', p_lease interval default headcount.default_lease(),
    p_limit integer default 1000, p_limit_recovering integer default 500
)
returns table (expired integer, departed integer, more boolean, recovering boolean) language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
#variable_conflict use_column
declare
    v_state   headcount.sweep_state;
    v_now     timestamptz := clock_timestamp();
    v_limit   integer;
    v_due     record;
    v_held    text[];
    v_rooms   text[];
    v_busy    text[];
    v_locked  headcount.room_version[];
    v_touched headcount.touched[];
begin
    select * into v_state from headcount.begin_sweep(p_interval);
    if not found then
        return query select 0, 0, false, false;
        return;
    end if;
    -- After an outage departures are throttled to p_limit_recovering a second, however many replicas sweep.
    v_limit := case
        when v_state.recovering
        then p_limit_recovering * greatest(0, least(1, extract(epoch from v_now - v_state.last_sweep_at)))
        else p_limit
    end;
    select * into v_due from headcount.find_due(v_state.leases_from, p_lease, v_now, v_limit);
    if v_due.users = '{}' then
        if v_state.recovering and v_limit > 0 and v_state.leases_from < v_now - interval '5 min' then
            update headcount.sweep_state s set recovering = false;
        end if;
        return query select 0, 0, false, v_state.recovering;
        return;
    end if;

    v_held := headcount.try_lock_users(v_due.users);
    -- Nobody joins as a locked user, so there are no more rooms than these. Below, lists of what is not ours are passed
    -- rather than lists of what is: a list is searched linearly, and these are nearly always empty.
    v_rooms := array(
        select distinct m.room_id from headcount.memberships m where m.session_id = any (v_due.expired || v_due.leaving)
    );
    v_locked := headcount.try_lock_rooms(v_rooms);
    v_busy := array(select unnest(v_rooms) except select l.room_id from unnest(v_locked) l);
    v_due.expired := headcount.lock_expired(v_due.expired, v_state.leases_from, v_now, v_held, v_busy);
    v_due.leaving := headcount.lock_leaving(v_due.leaving, v_held);

    v_touched := headcount.departing(v_due.expired, v_due.leaving, v_now, v_busy);
    perform headcount.depart(v_due.expired, v_due.leaving, v_now, v_busy);
    perform headcount.end_sessions(v_due.expired || v_due.leaving);
    v_touched := headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    return query select
        cardinality(v_due.expired),
        (select count(*)::integer from unnest(v_touched) t where t.kind = 'left'),
        v_due.more, v_state.recovering;
end
$$;

-- Sessions whose lease ran out, and sessions with a leave whose grace is over, with their users. Half of the limit is
-- for the leaves, the rest for the leases, so that a backlog of the one does not starve the other.
create or replace function headcount.find_due(
    p_leases_from timestamptz, p_lease interval, p_now timestamptz, p_limit integer,
    out expired uuid[], out leaving uuid[], out users text[], out more boolean
)
language plpgsql stable as $$
declare
    v_owners text[];
begin
    select coalesce(array_agg(l.session_id), '{}'), coalesce(array_agg(l.user_id), '{}')
    into leaving, users
    from (
        select m.session_id, m.user_id from headcount.memberships m where m.leaving_at <= p_now
        order by m.leaving_at limit (p_limit + 1) / 2
    ) l;
    select coalesce(array_agg(e.session_id), '{}'), coalesce(array_agg(e.user_id), '{}')
    into expired, v_owners
    from (
        select p.session_id, p.user_id
        from headcount.presence p
        where p.last_seen < p_now - p_lease
          and p_leases_from < p_now - p_lease
          and greatest(p.last_seen, p_leases_from) + p.lease < p_now
        order by p.last_seen
        limit p_limit - cardinality(leaving)
    ) e;
    users := users || v_owners;
    more := cardinality(users) >= p_limit or cardinality(leaving) >= (p_limit + 1) / 2;
end
$$;

-- Gives the users that another transaction holds. locks: the others, in key order.
create or replace function headcount.try_lock_users(p_users text[]) returns text[] language plpgsql as $$
begin
    return array(
        select given.user_id
        from (select distinct unnest(p_users) collate "C" as user_id order by user_id) given
        left join lateral (
            select u.user_id from headcount.users u
            where u.user_id = given.user_id
            for no key update skip locked
        ) u on true
        where u.user_id is null
    );
end
$$;

-- Gives the sessions that are still expired when checked under the lock, and whose user and rooms are ours.
-- locks: sessions in key order, skipping what is locked.
create or replace function headcount.lock_expired(
    p_sessions uuid[], p_leases_from timestamptz, p_now timestamptz, p_held text[], p_busy text[]
)
returns uuid[] language plpgsql as $$
begin
    return array(
        select p.session_id
        from (select unnest(p_sessions) as session_id order by session_id) given
        cross join lateral (
            select p.session_id
            from headcount.presence p
            where p.session_id = given.session_id
              and greatest(p.last_seen, p_leases_from) + p.lease < p_now
              and p.user_id <> all (p_held)
              and (p_busy = '{}' or not exists (
                  select from headcount.memberships m
                  where m.session_id = p.session_id and m.room_id = any (p_busy)
                  offset 0
              ))
            for update skip locked
        ) p
    );
end
$$;

-- Gives the sessions whose user is ours. locks: sessions in key order, skipping what is locked.
create or replace function headcount.lock_leaving(p_sessions uuid[], p_held text[]) returns uuid[]
language plpgsql as $$
begin
    return array(
        select p.session_id
        from (select distinct unnest(p_sessions) as session_id order by session_id) given
        cross join lateral (
            select p.session_id
            from headcount.presence p
            where p.session_id = given.session_id and p.user_id <> all (p_held)
            for update skip locked
        ) p
    );
end
$$;

-- The members that the sweep removes or changes. A user with another session in the room is looked up, for comparison; for
-- any other it is enough to know that they were seen, and will not be. needs: the sessions locked.
create or replace function headcount.departing(p_expired uuid[], p_leaving uuid[], p_now timestamptz, p_busy text[])
returns headcount.touched[] language plpgsql stable as $$
declare
    v_gone  headcount.touched[];
    v_stays headcount.touched[];
begin
    select
        array_agg((
            c.room_id, c.user_id, case when c.seen then '{}'::jsonb end, 'null', null, c.reason, c.last_seen
        )::headcount.touched) filter (where not c.stays),
        array_agg(headcount.touch(c.room_id, c.user_id, c.reason)) filter (where c.stays)
    into v_gone, v_stays
    from (
        select
            m.room_id, m.user_id,
            bool_or(not m.invisible) as seen,
            case when bool_or(m.expired) then 'expired' else 'left' end as reason,
            max(m.last_seen) filter (where not m.invisible) as last_seen,
            count(distinct m.session_id) < (
                select count(*) from headcount.memberships o
                where o.room_id = m.room_id and o.user_id = m.user_id
                offset 0
            ) as stays
        from (
            select unnest(p_expired) as session_id, true as expired
            union all
            select unnest(p_leaving), false
        ) given
        cross join lateral (
            select m.room_id, m.user_id, m.session_id, m.invisible, p.last_seen, given.expired
            from headcount.memberships m
            join headcount.presence p on p.session_id = any (array[m.session_id])
            where m.session_id = given.session_id
              and (given.expired or m.leaving_at <= p_now and m.room_id <> all (p_busy))
            offset 0
        ) m
        group by m.room_id, m.user_id
    ) c;
    return v_gone || headcount.remember(v_stays);
end
$$;

-- Removes the memberships of the departing. needs: the sessions locked.
create or replace function headcount.depart(p_expired uuid[], p_leaving uuid[], p_now timestamptz, p_busy text[])
returns void language plpgsql as $$
begin
    with expired as (
        delete from headcount.memberships m
        where m.session_id = any (p_expired)
        returning m.session_id, m.room_id, m.user_id, m.seq
    ), ended as (
        delete from headcount.memberships m
        where m.session_id = any (p_leaving) and m.leaving_at <= p_now and m.room_id <> all (p_busy)
        returning m.session_id, m.room_id, m.user_id, m.seq
    )
    insert into headcount.departures as d (session_id, room_id, user_id, seq)
    select * from expired union all select * from ended
    on conflict (session_id, room_id) do update
    set seq = greatest(d.seq, excluded.seq), kicked = false, left_at = excluded.left_at;
end
$$;
