-- Settings of rooms by pattern. A pattern is a room, or a prefix of rooms with `*` after it, as in tokens. Each setting
-- comes from the most precise pattern that has it: the room itself, then the longest prefix. A setting that no pattern
-- has is the deployment's.

-- Inlined.
create or replace function headcount.matches(p_pattern text, p_room text) returns boolean language sql immutable as $$
    select case when p_pattern like '%*' then starts_with(p_room, left(p_pattern, -1)) else p_pattern = p_room end
$$;
comment on function headcount.matches is 'Whether a pattern, a room or the beginning of rooms with * after it, means this room.';

-- Refuses the 101st pattern, because every join reads them all, and tells replicas to drop their cache. The payload names no
-- room, so older replicas skip it.
create or replace function headcount.announce_settings() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if (select count(*) from headcount.room_settings) > 100 then
        raise 'at most 100 patterns' using errcode = 'check_violation', hint = 'Remove one first.';
    end if;
    perform pg_notify('headcount', '!settings');
    return null;
end
$$;

-- The settings of a room: always one row. Null: the deployment's.
create or replace function headcount.settings_of(p_room text)
returns table (lease interval, lease_hidden interval, members_max integer) language sql stable as $$
    select
        (array_agg(s.lease order by s.pattern <> p_room, length(s.pattern) desc) filter (where s.lease is not null))[1],
        (array_agg(s.lease_hidden order by s.pattern <> p_room, length(s.pattern) desc)
            filter (where s.lease_hidden is not null))[1],
        (array_agg(s.members_max order by s.pattern <> p_room, length(s.pattern) desc)
            filter (where s.members_max is not null))[1]
    from headcount.room_settings s
    where headcount.matches(s.pattern, p_room)
$$;

-- Replaces the settings of a pattern. Gives false at the limit of 100 patterns.
-- locks: the table, against other writers.
create or replace function headcount.put_room_settings(
    p_pattern text, p_lease interval default null, p_lease_hidden interval default null,
    p_coalesce_ms integer default null, p_list_max integer default null, p_members_max integer default null
)
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- Against a race of two writers that both find place for one more.
    lock table headcount.room_settings in share row exclusive mode;
    if (select count(*) from headcount.room_settings s where s.pattern <> p_pattern) >= 100 then
        return false;
    end if;
    insert into headcount.room_settings as s (pattern, lease, lease_hidden, coalesce_ms, list_max, members_max)
    values (p_pattern, p_lease, p_lease_hidden, p_coalesce_ms, p_list_max, p_members_max)
    on conflict (pattern) do update
    set lease = excluded.lease, lease_hidden = excluded.lease_hidden, coalesce_ms = excluded.coalesce_ms,
        list_max = excluded.list_max, members_max = excluded.members_max;
    return true;
end
$$;

-- Gives whether there was anything. locks: the row.
create or replace function headcount.remove_room_settings(p_pattern text) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from headcount.room_settings s where s.pattern = p_pattern;
    return found;
end
$$;
