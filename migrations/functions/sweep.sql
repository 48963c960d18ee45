-- The sweep ends sessions whose lease ran out, and leaves whose grace is over.

-- Notes that a sweep runs now, and what an outage or a clock that jumped means for the leases.
-- Gives the state under its lock, with the time of the sweep before, or nothing while another sweep runs.
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
    -- The clock went back: what lies in the future would otherwise live that much too long. Rows that somebody
    -- holds are skipped: a sweep waits for nobody, and in another order than theirs it would deadlock.
    if v_now < v_state.last_sweep_at - interval '100 ms' then
        v_state.leases_from := v_now;
        update headcount.memberships m set leaving_at = v_now
        where (m.room_id, m.user_id, m.session_id) in (
            select f.room_id, f.user_id, f.session_id from headcount.memberships f
            where f.leaving_at > v_now
            for update skip locked
        );
    end if;
    -- In every sweep, for those that were skipped when it happened.
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
-- Never waits: a room, user or session that somebody holds is left for the next batch. Nobody's heartbeat is
-- needed for it, and a heartbeat that comes first wins, because the lease is read again under the lock.
-- p_lease is the shortest lease in use: the index on last_seen is read up to now minus that.
-- locks: sweep_state, users in key order, rooms in key order, sessions in key order; all skip what is locked.
create or replace function headcount.sweep(
    p_interval interval default '1 s', p_lease interval default '45 s',
    p_limit integer default 1000, p_limit_recovering integer default 500
)
returns table (expired integer, departed integer, more boolean, recovering boolean) language plpgsql
security definer
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_state    headcount.sweep_state;
    v_now      timestamptz := clock_timestamp();
    v_limit    integer;
    v_found    integer;
    v_more     boolean;
    v_expired  uuid[];
    v_leaving  uuid[];
    v_users    text[];
    v_owners   text[];
    v_held     text[];
    v_rooms    text[];
    v_busy     text[];
    v_locked   headcount.room_version[];
    v_touched  headcount.touched[];
    v_staying  headcount.touch[];
begin
    select * into v_state from headcount.begin_sweep(p_interval);
    if not found then
        return query select 0, 0, false, false;
        return;
    end if;
    -- After an outage departures are spread: so many a second, however many replicas sweep.
    v_limit := case
        when v_state.recovering
        then p_limit_recovering * greatest(0, least(1, extract(epoch from v_now - v_state.last_sweep_at)))
        else p_limit
    end;

    -- Half for those who said that they leave, the rest for those whose lease ran out: no backlog of the one keeps
    -- the other waiting.
    select coalesce(array_agg(l.session_id), '{}'), coalesce(array_agg(l.user_id), '{}')
    into v_leaving, v_users
    from (
        select m.session_id, m.user_id from headcount.memberships m where m.leaving_at <= v_now
        order by m.leaving_at limit (v_limit + 1) / 2
    ) l;
    select coalesce(array_agg(e.session_id), '{}'), coalesce(array_agg(e.user_id), '{}')
    into v_expired, v_owners
    from (
        select p.session_id, p.user_id
        from headcount.presence p
        where p.last_seen < v_now - p_lease
          and v_state.leases_from < v_now - p_lease
          and greatest(p.last_seen, v_state.leases_from) + p.lease < v_now
        order by p.last_seen
        limit v_limit - cardinality(v_leaving)
    ) e;
    v_found := cardinality(v_expired) + cardinality(v_leaving);
    v_more := v_found >= v_limit or cardinality(v_leaving) >= (v_limit + 1) / 2;

    if v_found > 0 then
        v_held := array(
            select given.user_id
            from (select distinct unnest(v_users || v_owners) collate "C" as user_id order by user_id) given
            left join lateral (
                select u.user_id from headcount.users u
                where u.user_id = given.user_id
                for no key update skip locked
            ) u on true
            where u.user_id is null
        );
        -- Nobody joins as a user who is locked, so there are no more rooms than these. What could not be locked is looked
        -- for rather than what could: lists are searched from their beginning, and this one is nearly always empty.
        v_rooms := array(
            select distinct m.room_id from headcount.memberships m
            where m.session_id = any (v_expired || v_leaving)
        );
        v_locked := headcount.lock_rooms(v_rooms, p_wait => false);
        v_busy := array(select unnest(v_rooms) except select l.room_id from unnest(v_locked) l);
        -- Under the lock, again: still expired, its user and every one of its rooms ours.
        v_expired := array(
            select p.session_id
            from (select unnest(v_expired) as session_id order by session_id) given
            cross join lateral (
                select p.session_id
                from headcount.presence p
                where p.session_id = given.session_id
                  and greatest(p.last_seen, v_state.leases_from) + p.lease < v_now
                  and p.user_id <> all (v_held)
                  and (v_busy = '{}' or not exists (
                      select from headcount.memberships m
                      where m.session_id = p.session_id and m.room_id = any (v_busy)
                      offset 0
                  ))
                for update skip locked
            ) p
        );
        v_leaving := array(
            select p.session_id
            from (select distinct unnest(v_leaving) as session_id order by session_id) given
            cross join lateral (
                select p.session_id
                from headcount.presence p
                where p.session_id = given.session_id and p.user_id <> all (v_held)
                for update skip locked
            ) p
        );
        -- Of users who have other sessions in the room it is remembered how they look; of the others it is enough that they
        -- were seen, and are not any more.
        select
            array_agg((
                c.ord, c.room_id, c.user_id, case when c.seen then '{}'::jsonb end, c.reason, c.last_seen, 'null'
            )::headcount.touched) filter (where not c.stays),
            array_agg((c.ord, c.room_id, c.user_id, c.reason)::headcount.touch) filter (where c.stays)
        into v_touched, v_staying
        from (
            select
                row_number() over (order by m.room_id, m.user_id) as ord, m.room_id, m.user_id,
                bool_or(not m.invisible) as seen,
                case when bool_or(m.expired) then 'expired' else 'left' end as reason,
                max(m.last_seen) filter (where not m.invisible) as last_seen,
                count(distinct m.session_id) < (
                    select count(*) from headcount.memberships o
                    where o.room_id = m.room_id and o.user_id = m.user_id
                    offset 0
                ) as stays
            from (
                select unnest(v_expired) as session_id, true as expired
                union all
                select unnest(v_leaving), false
            ) given
            cross join lateral (
                select m.room_id, m.user_id, m.session_id, m.invisible, p.last_seen, given.expired
                from headcount.memberships m
                join headcount.presence p on p.session_id = any (array[m.session_id])
                where m.session_id = given.session_id
                  and (given.expired or m.leaving_at <= v_now and m.room_id <> all (v_busy))
                offset 0
            ) m
            group by m.room_id, m.user_id
        ) c;
        v_touched := v_touched || headcount.remember(v_staying);
        with expired as (
            delete from headcount.memberships m
            where m.session_id = any (v_expired)
            returning m.session_id, m.room_id, m.user_id, m.seq
        ), ended as (
            delete from headcount.memberships m
            where m.session_id = any (v_leaving) and m.leaving_at <= v_now and m.room_id <> all (v_busy)
            returning m.session_id, m.room_id, m.user_id, m.seq
        )
        insert into headcount.departures as d (session_id, room_id, user_id, seq)
        select * from expired union all select * from ended
        on conflict (session_id, room_id) do update
        set seq = greatest(d.seq, excluded.seq), kicked = false, left_at = excluded.left_at;
        perform headcount.end_sessions(v_expired || v_leaving);
        perform headcount.log_changes(v_touched);
        perform headcount.announce(v_locked);
    elsif v_state.recovering and v_limit > 0 and v_state.leases_from < v_now - interval '5 min' then
        update headcount.sweep_state s set recovering = false;
    end if;

    return query select
        cardinality(v_expired),
        (
            select count(*)::integer from unnest(v_touched) t
            where t.before is not null and (t.after is not null or not exists (
                select from headcount.memberships m
                where m.room_id = t.room_id and m.user_id = t.user_id and not m.invisible
                offset 0
            ))
        ),
        v_found > 0 and v_more,
        v_state.recovering;
end
$$;
