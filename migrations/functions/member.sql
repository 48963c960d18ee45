-- What others see of a user in a room.

create or replace function headcount.member(p_roster headcount.rosters) returns jsonb language sql stable as $$
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

create or replace function headcount.unseen_member(p_unseen headcount.unseen) returns jsonb language sql stable as $$
    select headcount.member((
        p_unseen.room_id, p_unseen.user_id, p_unseen.name, p_unseen.avatar_url, p_unseen.status,
        p_unseen.state, p_unseen.sessions, p_unseen.joined_at, p_unseen.last_seen
    )::headcount.rosters) || '{"invisible": true}'
$$;
comment on function headcount.unseen_member is
    'The same, for the user themselves and the application''s servers.';

-- The sub-select ends in `offset 0` so that the planner looks members up one by one: without it the
-- grouped view would be computed for every room and then joined.
create or replace function headcount.remember(p_touches headcount.touch[]) returns headcount.touched[]
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
