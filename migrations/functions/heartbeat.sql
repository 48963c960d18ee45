-- Heartbeats renew leases. The only clock that decides is this database's.

-- Renews the leases of sessions that exist; never creates one. Writes presence only: no event, no notification, no room
-- lock. The arrays are parallel and sorted by session; a null user is the server key's, which may renew any session.
-- Gives each session still alive, its user, whether its idle flag is due for a change (see refresh_idle), and its lease:
-- the cached one of its rooms' settings (set_leases), else the deployment's.
-- locks: the sessions, in key order.
create or replace function headcount.heartbeat(
    p_sessions uuid[], p_users text[], p_visible boolean[], p_active boolean[], p_seqs bigint[],
    p_lease interval default headcount.default_lease(), p_lease_hidden interval default headcount.default_lease_hidden(),
    p_idle_after interval default '5 min'
)
returns table (session_id uuid, user_id text, visible boolean, idle_due boolean, lease interval) language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
begin
    -- A heartbeat with an older seq than the newest is a no-op: it was delayed, and proves nothing about now.
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

-- locks: rooms of the sessions, the sessions.
create or replace function headcount.refresh_idle(p_sessions uuid[], p_idle_after interval default '5 min')
returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
declare
    v_locked  headcount.room_version[] := headcount.lock_rooms(array(
        select m.room_id from headcount.memberships m where m.session_id = any (p_sessions)
    ));
    v_due     uuid[] := array(
        select p.session_id
        from (select distinct unnest(p_sessions) as session_id order by session_id) given
        cross join lateral (
            select p.session_id
            from headcount.presence p
            where p.session_id = given.session_id
              and p.idle <> (p.last_active < clock_timestamp() - p_idle_after)
            for update
        ) p
    );
    v_touched headcount.touched[] := headcount.remember(array(
        select headcount.touch(m.room_id, m.user_id)
        from headcount.memberships m
        where m.session_id = any (v_due)
          and exists (select from unnest(v_locked) l where l.room_id = m.room_id offset 0)
        group by m.room_id, m.user_id
    ));
begin
    update headcount.presence p set idle = not p.idle
    where p.session_id = any (v_due)
      -- Race: a room that was joined after the locks were taken would miss the event. The next heartbeat retries.
      and not exists (
          select from headcount.memberships m
          where m.session_id = p.session_id
            and not exists (select from unnest(v_locked) l where l.room_id = m.room_id)
          offset 0
      );
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
end
$$;
comment on function headcount.refresh_idle is
    'Makes the idle flag of sessions agree with when they were last active, with an `updated` where that shows.';

-- Which of these sessions were kicked out of which rooms, and did not join those again. A user's own, if one is named.
create or replace function headcount.kicked(p_sessions uuid[], p_user text default null)
returns table (session_id uuid, room_id text) language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select d.session_id, d.room_id
    from headcount.departures d
    where d.session_id = any (p_sessions) and d.kicked and (p_user is null or d.user_id = p_user)
      and not exists (
          select from headcount.memberships m
          where m.room_id = d.room_id and m.user_id = d.user_id and m.session_id = d.session_id
      )
    order by d.room_id
$$;
