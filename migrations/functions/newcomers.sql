-- The fast path of joins: a session that this batch made, of a user who is not in the room yet. What such a member is
-- and what event follows is known from the command alone, so nothing is remembered and nothing compared. Nearly all
-- joins are so, and it is a third cheaper than the general path (decide, carry_out, log_changes).

-- Admits the newcomers among the undecided commands of a wave; of the others nothing is done. The fast path does not look
-- at the settings of rooms, so nobody takes it where a setting concerns joins. needs: users and rooms locked.
create or replace function headcount.admit_newcomers(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns headcount.verdict[] language plpgsql
set headcount.planner = 'joins_lists'
as $$
declare
    v_members jsonb[]; -- the n-th is what the n-th command makes of its user, null where that is no newcomer
    v_moved   headcount.position[];
begin
    if headcount.joins_are_set() then
        return p_verdicts;
    end if;
    v_members := headcount.newcomers_among(p_wave, p_verdicts, p_now);
    insert into headcount.memberships (room_id, user_id, session_id, status, state, seq, joined_at, changed_at)
    select
        c.room_id, c.user_id, c.session_id, c.status, c.state, coalesce(c.seq, 0), p_now,
        clock_timestamp()
    from unnest(p_wave) with ordinality c
    where v_members[c.ordinality] is not null
    order by c.room_id, c.user_id;
    if not found then
        return p_verdicts;
    end if;
    v_moved := headcount.append_events(array(
        select (c.room_id, c.user_id, null, v_members[c.ordinality], 'joined', null, null)::headcount.touched
        from unnest(p_wave) with ordinality c
        where v_members[c.ordinality] is not null
        order by c.ordinality
    ));
    return array(
        select (
            case when n.member is null then c.outcome else 'admitted' end, c.opened, null, null, null, null, null,
            case when n.member is not null then true end, n.member,
            case when n.member is not null then m.epoch end, case when n.member is not null then m.version end
        )::headcount.verdict
        from unnest(p_wave, p_verdicts) with ordinality c
        cross join lateral (select v_members[c.ordinality] as member offset 0) n
        left join unnest(v_moved) m on m.room_id = c.room_id
        order by c.ordinality
    );
end
$$;

-- The members that the newcomers become.
create or replace function headcount.newcomers_among(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns jsonb[] language plpgsql stable as $$
declare
    -- What is said of a session's visibility last counts, and is found out by looking at all that is said of it.
    v_hidden uuid[] := array(select c.session_id from unnest(p_wave) c where c.visible = false);
begin
    return array(
        select u.member
        from unnest(p_wave, p_verdicts) with ordinality c
        left join lateral (
            select headcount.as_member(
                u.user_id, u.name, u.avatar_url, coalesce(c.status, 'online'), coalesce(c.state, '{}'), 1, p_now
            ) as member
            from headcount.users u
            where u.user_id = c.user_id and c.outcome is null and c.opened and c.invisible is not true
              and c.session_id <> all (v_hidden)
              and not exists (
                  select from headcount.memberships m where m.room_id = c.room_id and m.user_id = c.user_id offset 0
              )
              and (c.seq is null or not exists (
                  select from headcount.departures d
                  where d.session_id = c.session_id and d.room_id = c.room_id and d.seq > c.seq
                  offset 0
              ))
            offset 0
        ) u on true
        order by c.ordinality
    );
end
$$;

-- Whether the settings of any room say something about who may join, or for how long.
create or replace function headcount.joins_are_set() returns boolean language plpgsql stable as $$
begin
    return exists (
        select from headcount.room_settings s
        where s.lease is not null or s.lease_hidden is not null or s.members_max is not null
    );
end
$$;
