-- What is said explicitly does not lose to silence: a status that was never named is null, and a name that was set is
-- not undone by a token from before.

alter table headcount.memberships alter column status drop not null, alter column status drop default;
comment on column headcount.memberships.status is
    'What the session named; null while it has named none: then it takes no part in what others see.';

alter table headcount.users add column named_at timestamptz;
comment on column headcount.users.named_at is
    'When an application or the user last set name or picture. A token that was issued before changes neither.';

create or replace view headcount.sightings as
select
    m.room_id,
    m.user_id,
    m.invisible,
    u.name,
    u.avatar_url,
    case
        when bool_or(m.status = 'dnd') then 'dnd'
        when bool_or(m.status = 'online' and not p.idle) then 'online'
        when bool_or(m.status is null and not p.idle) and not bool_or(m.status is not null) then 'online'
        else 'idle'
    end as status,
    coalesce(
        (array_agg(m.state order by m.changed_at desc, m.session_id) filter (where m.state is not null))[1],
        '{}'
    ) as state,
    count(*)::integer as sessions,
    min(m.joined_at) as joined_at,
    max(p.last_seen) as last_seen,
    bool_or(m.status is not null) as said
from headcount.memberships m
join headcount.presence p on p.session_id = any (array[m.session_id])
join headcount.users u on u.user_id = any (array[m.user_id])
group by m.room_id, m.user_id, m.invisible, u.user_id;

comment on view headcount.rosters is
    'The members of every room. Of the sessions that named a status (of all, where none did) the most explicit counts: dnd, online, idle. State is the newest one set.';

create or replace view headcount.whereabouts as
select
    u.user_id,
    u.name,
    u.avatar_url,
    m.rooms is not null as online,
    m.status,
    coalesce(m.rooms, '{}') as rooms,
    greatest(m.last_seen, u.last_seen_at) as last_seen
from headcount.users u
left join lateral (
    select
        array_agg(r.room_id order by r.room_id) as rooms,
        case
            when bool_or(r.status = 'dnd') then 'dnd'
            when bool_or(r.status = 'online' and r.said) then 'online'
            when bool_or(r.status = 'online') and not bool_or(r.said) then 'online'
            else 'idle'
        end as status,
        max(r.last_seen) as last_seen
    from headcount.sightings r
    where r.user_id = u.user_id and not r.invisible
    having count(*) > 0
) m on true;
