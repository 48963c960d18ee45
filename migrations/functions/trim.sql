-- The trim bounds what grows: the log, the departures, and rooms that nobody uses any more.

-- Removes events and departures older than p_retention, at most p_limit rows of each a call, and rooms that are empty
-- (of invisible ones too) and have no log left. Gives whether there was more.
-- locks: log_state, and what it removes; it skips what somebody holds.
create or replace function headcount.trim(p_retention interval default '24 h', p_limit integer default 10000)
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_before     timestamptz := clock_timestamp() - p_retention;
    v_events     integer;
    v_departures integer;
    v_rooms      integer;
begin
    perform from headcount.log_state for update skip locked;
    if not found then
        return false;
    end if;
    v_events := headcount.trim_log(v_before, p_retention < '1 day', p_limit);
    -- Not those that somebody is writing again: the trim must not wait while it holds others.
    delete from headcount.departures d
    where d.ctid = any (array(
        select o.ctid from headcount.departures o where o.left_at < v_before limit p_limit for update skip locked
    ));
    get diagnostics v_departures = row_count;
    v_rooms := headcount.forget_rooms(p_limit);
    return greatest(v_events, v_departures, v_rooms) >= p_limit;
end
$$;

-- Whole days of the log are dropped by turn_days. Row by row goes only what a day is too coarse for: all, when less than
-- a day is kept (p_all), and else what is in no partition of a day. Gives how many. needs: log_state locked.
create or replace function headcount.trim_log(p_before timestamptz, p_all boolean, p_limit integer) returns integer
language plpgsql as $$
declare
    v_part   regclass;
    v_rows   integer;
    v_events integer := 0;
begin
    for v_part in
        select d.part from headcount.log_days() d
        where coalesce(d.begins, '-infinity') < p_before and (not d.is_day or p_all)
    loop
        execute format(
            'delete from %1$s e where e.ctid = any (array(select o.ctid from %1$s o where o.at < $1 limit $2))', v_part
        ) using p_before, p_limit - v_events;
        get diagnostics v_rows = row_count;
        v_events := v_events + v_rows;
    end loop;
    if v_events > 0 then
        update headcount.log_state s set complete_from = greatest(s.complete_from, p_before);
    end if;
    return v_events;
end
$$;

-- Removes the rooms in which nobody is, not even invisibly, and of which the log knows nothing. Gives how many.
--
-- A room's row holds its version. Before one is forgotten the generation rises, in an earlier call and so in an earlier
-- transaction: whoever creates the room again then takes another epoch, and no version repeats.
-- locks: the rooms, skipping what is locked.
create or replace function headcount.forget_rooms(p_limit integer) returns integer language plpgsql as $$
declare
    v_generation text := (select to_hex(l.generation) from headcount.lineage l);
    v_unused     text[] := array(
        select r.room_id from headcount.rooms r
        where r.member_count = 0
          and not exists (select from headcount.events e where e.room_id = r.room_id)
          and not exists (select from headcount.memberships m where m.room_id = r.room_id)
        limit p_limit
        for update skip locked
    );
    v_rooms      integer;
begin
    -- Looked at again under the lock: somebody may have come and gone, and left a log.
    delete from headcount.rooms r
    where r.room_id = any (v_unused) and r.member_count = 0 and headcount.generation_of(r.epoch) <> v_generation
      and not exists (select from headcount.events e where e.room_id = r.room_id)
      and not exists (select from headcount.memberships m where m.room_id = r.room_id);
    get diagnostics v_rooms = row_count;
    if v_rooms = 0 and v_unused <> '{}' then
        update headcount.lineage l set generation = l.generation + 1;
    end if;
    return v_rooms;
end
$$;
