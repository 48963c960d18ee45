-- What each command of a wave may do, decided under the locks.
--   ok         it will be carried out
--   stale      an older seq than the newest seen: nothing is done, and it is answered as ok with what is now
--   absent     the session is not in that room (for a leave that is success)
--   foreign    the session is somebody else's, or for an update nobody's
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

-- How many members a room takes

-- The joins of a wave that would be one member too many, in the order of their `ord`, and the updates that would show
-- somebody who is there unseen. A tab more of who is there needs no place; a place that the wave itself gives up is
-- free in the next batch. needs: the rooms locked, so nobody comes in between.
create or replace function headcount.refuse_full(p_wave headcount.command[]) returns headcount.command[]
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

-- The joins that would give a user more rooms or more sessions than they may have: the newest are refused, what is
-- there is never ended for them. One that repeats, or adds a tab in a room to it, needs nothing new. What the batch
-- itself gives up counts until the next. needs: the users locked, so that nothing of theirs grows meanwhile.
-- No user's memberships are read further than p_most, which is a limit too.
create or replace function headcount.over_limit(
    p_commands headcount.command[], p_rooms_max integer, p_sessions_max integer, p_most integer default 5000
)
returns headcount.answer[] language plpgsql stable as $$
declare
    -- Nobody has more rooms or sessions than memberships, so nearly every batch ends here, after a count for each user.
    v_least    integer := least(p_rooms_max, p_sessions_max, p_most);
    v_suspects text[] := array(
        select u.user_id
        from (
            select c.user_id, count(*) as joins from unnest(p_commands) c where c.limited group by c.user_id
        ) u
        cross join lateral (
            select count(*) as places
            from (
                select from headcount.memberships m where m.user_id = any (array[u.user_id]) limit v_least
            ) m
            offset 0
        ) h
        where h.places + u.joins > v_least
    );
begin
    if v_suspects = '{}' then
        return '{}';
    end if;
    return array(
        select (j.ord, j.room_id, j.outcome, false, null)::headcount.answer
        from (
            select
                n.ord, n.room_id,
                case
                    when n.new_session and n.sessions + dense_rank() over (
                        partition by n.user_id, n.new_session order by n.session_first
                    ) > p_sessions_max then 'sessions_full'
                    when n.new_room and n.rooms + dense_rank() over (
                        partition by n.user_id, n.new_room order by n.room_first
                    ) > p_rooms_max or n.places >= p_most then 'rooms_full'
                end as outcome
            from (
                select
                    c.ord, c.room_id, c.user_id, cardinality(h.rooms) as rooms, cardinality(h.sessions) as sessions,
                    h.places, c.room_id <> all (h.rooms) as new_room, c.session_id <> all (h.sessions) as new_session,
                    min(c.ord) over (partition by c.user_id, c.room_id) as room_first,
                    min(c.ord) over (partition by c.user_id, c.session_id) as session_first
                from unnest(p_commands) c
                cross join lateral (
                    select
                        coalesce(array_agg(distinct m.room_id), '{}') as rooms,
                        coalesce(array_agg(distinct m.session_id), '{}') as sessions,
                        count(*) as places
                    from (
                        select m.room_id, m.session_id from headcount.memberships m
                        where m.user_id = any (array[c.user_id])
                        limit p_most
                    ) m
                    offset 0
                ) h
                where c.limited and c.user_id = any (v_suspects) and not exists (
                    select from headcount.memberships m
                    where m.room_id = c.room_id and m.user_id = c.user_id and m.session_id = c.session_id
                    offset 0
                )
            ) n
        ) j
        where j.outcome is not null
    );
end
$$;
