-- What others see of a user in a room, and how a statement notices that it changed.

-- Inlined. The texts are put together by one call, which is four times as quick as one that takes any type.
create or replace function headcount.as_member(
    p_user text, p_name text, p_avatar_url text, p_status text, p_state jsonb, p_sessions integer, p_joined_at timestamptz
)
returns jsonb language sql stable as $$
    select jsonb_object(
        '{id, name, avatar_url, status, joined_at}',
        array[
            p_user, p_name, p_avatar_url, p_status,
            to_char(p_joined_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
        ]
    ) || jsonb_build_object('state', p_state, 'sessions', p_sessions)
$$;
comment on function headcount.as_member is 'A member as the API shows it.';

create or replace function headcount.member(p_roster headcount.rosters) returns jsonb language sql stable as $$
    select headcount.as_member(
        p_roster.user_id, p_roster.name, p_roster.avatar_url, p_roster.status, p_roster.state, p_roster.sessions,
        p_roster.joined_at
    )
$$;
comment on function headcount.member is 'The same, from a row of the view.';

create or replace function headcount.unseen_member(p_unseen headcount.unseen) returns jsonb language sql stable as $$
    select headcount.as_member(
        p_unseen.user_id, p_unseen.name, p_unseen.avatar_url, p_unseen.status, p_unseen.state, p_unseen.sessions,
        p_unseen.joined_at
    ) || '{"invisible": true}'
$$;
comment on function headcount.unseen_member is
    'A member with invisible sessions only, as the user and the application''s servers see them.';

-- Somebody whom a statement is about to change; `remember` looks up what they are.
create or replace function headcount.touch(p_room text, p_user text, p_reason text default 'left')
returns headcount.touched language sql immutable as $$
    select (p_room, p_user, null, null, null, p_reason, null)::headcount.touched
$$;

-- Fills in `before` and `last_seen`, for log_changes to compare with afterwards. Call it before the rows change.
-- The sub-select ends in `offset 0` so that the planner looks members up one by one: without it the
-- grouped view would be computed for every room and then joined.
create or replace function headcount.remember(p_touched headcount.touched[]) returns headcount.touched[]
language plpgsql stable as $$
begin
    return array(
        select (t.room_id, t.user_id, m.member, t.after, null, t.reason, m.last_seen)::headcount.touched
        from unnest(p_touched) with ordinality t
        left join lateral (
            select headcount.member(r) as member, r.last_seen
            from headcount.rosters r
            where r.room_id = t.room_id and r.user_id = t.user_id
            offset 0
        ) m on true
        order by t.ordinality
    );
end
$$;

-- What changes with the profile of these users: one for each of their rooms.
create or replace function headcount.remember_users(p_users text[]) returns headcount.touched[]
language plpgsql stable as $$
begin
    return headcount.remember(array(
        select headcount.touch(m.room_id, m.user_id)
        from headcount.memberships m
        where m.user_id = any (p_users)
        group by m.room_id, m.user_id
    ));
end
$$;
