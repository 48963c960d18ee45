-- What becomes of a command. It is undecided (null) until one of these functions gives it an outcome:
--   ok             it is carried out
--   admitted       it was carried out by the fast path of newcomers; callers are told `ok`
--   stale          an older seq than the newest seen: nothing is done; callers are told `ok`, with what is now
--   absent         the session is not in that room (for a leave that is success)
--   foreign        the session is somebody else's, or for an update nobody's
--   busy           somebody holds a room or a user that it needs
--   rooms_full     its user would be in more rooms than they may
--   sessions_full  its user would have more sessions than they may
--   revoked        a join by a token that was issued before its user's tokens were revoked
--   room_full      the room would have more members than it takes
-- Where a command is refused, nothing is done for it.

-- Gives an outcome to those of the commands in p_places (positions in the list) that have none yet.
create or replace function headcount.refuse(p_verdicts headcount.verdict[], p_places bigint[], p_outcome text)
returns headcount.verdict[] language plpgsql immutable as $$
declare
    v_place bigint;
begin
    foreach v_place in array p_places loop
        p_verdicts[v_place].outcome := coalesce((p_verdicts[v_place]).outcome, p_outcome);
    end loop;
    return p_verdicts;
end
$$;

-- Refuses joins that would give a user more rooms or more sessions than they may have: the newest are refused, what is
-- there is never ended for them. One that repeats, or adds a tab in a room to it, needs nothing new. What the batch
-- itself gives up counts until the next. needs: the users locked, so that nothing of theirs grows meanwhile.
-- No user's memberships are read further than p_most, which is a limit too.
create or replace function headcount.refuse_over_limit(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_rooms_max integer, p_sessions_max integer,
    p_most integer default 5000
)
returns headcount.verdict[] language plpgsql stable as $$
declare
    -- Nobody has more rooms or sessions than memberships, so nearly every batch ends here, after a count for each user.
    v_least    integer := least(p_rooms_max, p_sessions_max, p_most);
    v_suspects text[];
    v_refused  record;
begin
    if coalesce(p_rooms_max, p_sessions_max) is null then
        return p_verdicts;
    end if;
    v_suspects := array(
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
    if v_suspects <> '{}' then
        for v_refused in
            select * from headcount.over_limit(p_commands, v_suspects, p_rooms_max, p_sessions_max, p_most)
        loop
            p_verdicts := headcount.refuse(p_verdicts, v_refused.places, v_refused.outcome);
        end loop;
    end if;
    return p_verdicts;
end
$$;

-- Of the suspects, the positions of the joins that are too many.
create or replace function headcount.over_limit(
    p_commands headcount.command[], p_suspects text[], p_rooms_max integer, p_sessions_max integer, p_most integer
)
returns table (outcome text, places bigint[]) language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    with joining as (
        select
            c.ordinality, c.user_id, cardinality(h.rooms) as rooms, cardinality(h.sessions) as sessions,
            h.places, c.room_id <> all (h.rooms) as new_room, c.session_id <> all (h.sessions) as new_session,
            min(c.ord) over (partition by c.user_id, c.room_id) as room_first,
            min(c.ord) over (partition by c.user_id, c.session_id) as session_first
        from unnest(p_commands) with ordinality c
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
        where c.limited and c.user_id = any (p_suspects) and not exists (
            select from headcount.memberships m
            where m.room_id = c.room_id and m.user_id = c.user_id and m.session_id = c.session_id
            offset 0
        )
    )
    select j.outcome, array_agg(j.ordinality)
    from (
        select
            n.ordinality,
            case
                when n.new_session and n.sessions + dense_rank() over (
                    partition by n.user_id, n.new_session order by n.session_first
                ) > p_sessions_max then 'sessions_full'
                when n.new_room and n.rooms + dense_rank() over (
                    partition by n.user_id, n.new_room order by n.room_first
                ) > p_rooms_max or n.places >= p_most then 'rooms_full'
            end as outcome
        from joining n
    ) j
    where j.outcome is not null
    group by j.outcome;
end
$$;

-- Refuses joins by a session that is somebody else's, before they change a profile. decide would find them too, but
-- later; looked at here only where a profile changes, which is seldom.
create or replace function headcount.refuse_foreign(p_commands headcount.command[], p_verdicts headcount.verdict[])
returns headcount.verdict[] language plpgsql stable as $$
begin
    return headcount.refuse(p_verdicts, array(
        select c.ordinality
        from unnest(p_commands) with ordinality c
        where c.op = 'join' and (
            exists (
                select from headcount.presence p
                where p.session_id = c.session_id and p.user_id <> c.user_id
                offset 0
            )
            or exists (
                select from headcount.departures d
                where d.session_id = c.session_id and d.user_id <> c.user_id
                offset 0
            )
        )
    ), 'foreign');
end
$$;

-- Refuses commands that need a room which somebody holds, so that one held room does not stop the others in the batch.
-- A user whose profile changes needs all of their rooms.
create or replace function headcount.refuse_held(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_locked headcount.room_version[], p_changed text[]
)
returns headcount.verdict[] language plpgsql stable as $$
declare
    -- Rooms that do not exist are not held; those of joins were to be created.
    v_busy text[] := array(
        select c.room_id
        from unnest(p_commands, p_verdicts) c
        where c.outcome is null and (
            c.op = 'join' or exists (select from headcount.rooms r where r.room_id = c.room_id offset 0)
        )
        union
        select m.room_id from headcount.memberships m where m.user_id = any (p_changed)
        except
        select l.room_id from unnest(p_locked) l
    );
    v_held text[];
begin
    if v_busy = '{}' then
        return p_verdicts;
    end if;
    v_held := array(
        select m.user_id from headcount.memberships m
        where m.user_id = any (p_changed) and m.room_id = any (v_busy)
    );
    return headcount.refuse(p_verdicts, array(
        select c.ordinality
        from unnest(p_commands) with ordinality c
        where c.room_id = any (v_busy) or c.user_id = any (v_held)
    ), 'busy');
end
$$;

-- Decides what is still undecided of a wave. needs: users, rooms and sessions locked.
create or replace function headcount.decide(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns headcount.verdict[] language plpgsql stable as $$
declare
    v_leases boolean := headcount.leases_are_set();
begin
    p_verdicts := array(
        select (
            coalesce(c.outcome, case
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
            end),
            c.opened, coalesce(m.known, false), m.company, m.seen_from, p.idle,
            -- Sessions made by this batch are renewed already, and visible; but their leases may be set.
            p.last_seen <> p_now or p.visible <> c.visible or v_leases,
            c.created, c.member, c.epoch, c.version
        )::headcount.verdict
        from unnest(p_wave, p_verdicts) with ordinality c
        left join lateral (
            select p.user_id, p.session_id, p.idle, p.last_seen, p.visible
            from headcount.presence p
            where c.outcome is null and p.session_id = c.session_id
            offset 0
        ) p on true
        cross join lateral (
            select
                count(*) > 0 as company,
                bool_or(m.session_id = c.session_id) as known,
                max(m.seq) filter (where m.session_id = c.session_id) as seq,
                min(m.joined_at) filter (where not m.invisible) as seen_from
            from headcount.memberships m
            where c.outcome is null and m.room_id = c.room_id and m.user_id = c.user_id
            offset 0
        ) m
        left join lateral (
            select d.seq
            from headcount.departures d
            where c.outcome is null and c.seq is not null and d.session_id = c.session_id and d.room_id = c.room_id
            offset 0
        ) d on true
        order by c.ordinality
    );
    if exists (select from headcount.room_settings s where s.members_max is not null) then
        p_verdicts := headcount.refuse_full(p_wave, p_verdicts);
    end if;
    return p_verdicts;
end
$$;

-- Refuses the joins of a wave that would be one member too many, in the order of their `ord`, and the updates that would
-- show somebody who is there unseen. A tab more of a member needs no place; a place that the wave itself gives up is
-- free in the next batch. needs: the rooms locked, so nobody comes in between.
create or replace function headcount.refuse_full(p_wave headcount.command[], p_verdicts headcount.verdict[])
returns headcount.verdict[] language plpgsql stable as $$
declare
    v_place bigint;
begin
    for v_place in
        select n.ordinality
        from (
            select
                c.ordinality, r.member_count, s.members_max,
                row_number() over (partition by c.room_id order by c.ord) as comes
            from unnest(p_wave, p_verdicts) with ordinality c
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
        p_verdicts[v_place].outcome := 'room_full';
    end loop;
    return p_verdicts;
end
$$;
