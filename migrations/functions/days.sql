-- The log by day: partitions are made for coming days and dropped when they are too old.

-- The partitions. The one without a day is events_default, which takes what no other does.
create or replace function headcount.log_days()
returns table (part regclass, begins timestamptz, ends timestamptz, is_day boolean) language sql stable as $$
    select
        i.inhrelid::regclass,
        case
            when c.relname ~ '^events_\d{8}$' then right(c.relname::text, 8)::date::timestamp at time zone 'UTC'
        end,
        case
            when c.relname ~ '^events_\d{8}$' then (right(c.relname::text, 8)::date + 1)::timestamp at time zone 'UTC'
        end,
        c.relname ~ '^events_\d{8}$'
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'headcount.events'::regclass
$$;

-- Creates the partition apart and attaches it then: `create table ... partition of` would lock the log against readers and
-- writers. locks: for an instant the default partition, so that a replay waits, and a write does not.
create or replace function headcount.make_day(p_begins timestamptz) returns text language plpgsql as $$
declare
    v_name text := 'events_' || to_char(p_begins at time zone 'UTC', 'YYYYMMDD');
begin
    execute format(
        'create table headcount.%I (like headcount.events including defaults including constraints, primary key (room_id, version))',
        v_name
    );
    execute format(
        'alter table headcount.events attach partition headcount.%I for values from (%L) to (%L)',
        v_name, p_begins, (p_begins at time zone 'UTC' + interval '1 day') at time zone 'UTC'
    );
    return v_name;
end
$$;

-- Makes the first partition that is missing for one of the coming days. Gives its name, null for a no-op.
--
-- Never one for today, because of a race: a running transaction may have chosen the default partition already, whose
-- constraint would then refuse its row. Never one for a day that has rows in the default partition, or while that
-- partition is so large that validating it, which attaching does, would block writers: those rows stay, are found as
-- before, and are trimmed row by row.
create or replace function headcount.make_next_day(p_ahead integer) returns text language plpgsql as $$
declare
    v_today  timestamp := date_trunc('day', clock_timestamp() at time zone 'UTC');
    v_begins timestamptz;
begin
    for v_ahead in 1 .. p_ahead loop
        v_begins := (v_today + v_ahead * interval '1 day') at time zone 'UTC';
        continue when v_begins < clock_timestamp() + interval '1 hour'
            or exists (select from headcount.log_days() d where d.begins <= v_begins and v_begins < d.ends)
            or to_regclass('headcount.events_' || to_char(v_begins at time zone 'UTC', 'YYYYMMDD')) is not null
            or exists (
                select from headcount.events_default e
                where e.at >= v_begins and e.at < (v_begins at time zone 'UTC' + interval '1 day') at time zone 'UTC'
            );
        if pg_relation_size('headcount.events_default') > 16 * 1024 * 1024 then
            return null;
        end if;
        return headcount.make_day(v_begins);
    end loop;
    return null;
end
$$;

-- Drops the oldest partition that holds nothing from p_before on. Gives its name, null when there is none.
-- needs: the row of log_state locked. locks: the log, against everybody, while the catalog is written.
create or replace function headcount.drop_oldest_day(p_before timestamptz) returns text language plpgsql as $$
declare
    v_day record;
begin
    select d.part, d.part::text as name, d.ends into v_day
    from headcount.log_days() d
    where d.ends <= p_before
    order by d.ends
    limit 1;
    if not found then
        return null;
    end if;
    update headcount.log_state s set complete_from = greatest(s.complete_from, v_day.ends);
    lock table only headcount.events in access exclusive mode;
    -- Every caller that waits for the log waits for this lock, too.
    perform set_config('lock_timeout', '50 ms', true);
    execute format('drop table %s', v_day.name);
    return v_day.name;
end
$$;

-- One step of keeping the log by day: drops a partition that is too old, or makes one for a coming day. Gives what it
-- did, null for a no-op. Waits for the lock of the log 200 ms at most, because readers and writers queue behind it;
-- after a timeout the backoff is 50 s, for all replicas.
-- locks: the row of log_state; the log, as drop_oldest_day and make_day.
create or replace function headcount.turn_days(p_retention interval default '24 h', p_ahead integer default 3)
returns text language plpgsql
security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '150 ms'
as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_tried timestamptz;
begin
    select s.tried_at into v_tried from headcount.log_state s for update skip locked;
    if not found or v_tried between v_now - interval '50 s' and v_now then
        return null;
    end if;
    begin
        return coalesce('dropped ' || headcount.drop_oldest_day(v_now - p_retention), 'made ' || headcount.make_next_day(p_ahead));
    exception when lock_not_available or deadlock_detected then
        update headcount.log_state s set tried_at = v_now;
        return null;
    end;
end
$$;
comment on function headcount.turn_days is
    'Run every minute by the service. By hand, with more days ahead, before a time without one.';
