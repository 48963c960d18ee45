-- How a change becomes history: version, event and count of a room are written here and nowhere else, and then the
-- outbox of webhooks and one notification.

-- Inlined. The mark by which notifications name a room. The key is an argument, so that a query over many rooms reads it
-- once. src/domain/hint.rs computes the same.
create or replace function headcount.mark_in(p_key bytea, p_room text) returns bigint language sql immutable as $$
    select ('x' || left(encode(sha256(p_key || convert_to(p_room, 'UTF8')), 'hex'), 16))::bit(64)::bigint
$$;

-- For replicas, which hear marks and must know which of the rooms that they watch is meant.
create or replace function headcount.notification_key() returns bytea language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select k.key from headcount.notification_key k
$$;

-- Appends one event for each that has a `kind`, in the order of the list. Gives where the rooms are then.
-- needs: the rooms locked.
create or replace function headcount.append_events(p_touched headcount.touched[]) returns headcount.position[]
language plpgsql
set headcount.planner = 'joins_lists'
as $$
declare
    v_lineage text := headcount.lineage();
    v_moved   headcount.position[];
begin
    with change as materialized (
        select t.*, row_number() over (partition by t.room_id order by t.ordinality) as n
        from unnest(p_touched) with ordinality t
        where t.kind is not null
    ), moved as (
        update headcount.rooms r
        set version = r.version + c.events,
            member_count = r.member_count + c.gain,
            epoch = headcount.epoch_in(v_lineage, r.epoch),
            mark = coalesce(
                r.mark, headcount.mark_in((select k.key from headcount.notification_key k), r.room_id)
            )
        from (
            select
                c.room_id, count(*) as events,
                count(*) filter (where c.kind = 'joined') - count(*) filter (where c.kind = 'left') as gain
            from change c
            group by c.room_id
        ) c
        where r.room_id = any (array[c.room_id])
        returning r.room_id, r.epoch, r.version, r.version - c.events as before
    ), logged as (
        insert into headcount.events (room_id, version, kind, user_id, member, reason)
        select
            c.room_id, m.before + c.n, c.kind, c.user_id, nullif(c.after, 'null'),
            case when c.kind = 'left' then c.reason end
        from change c
        join moved m on m.room_id = c.room_id
    )
    select array_agg((m.room_id, m.epoch, m.version)::headcount.position) into v_moved from moved m;
    return v_moved;
end
$$;

-- Fills in `after`, where it is not known yet, and `kind`. Another number of sessions or another `joined_at` is no event.
create or replace function headcount.compare(p_touched headcount.touched[]) returns headcount.touched[]
language plpgsql stable as $$
begin
    return array(
        select (
            c.room_id, c.user_id, c.before, c.after,
            case
                when c.before is null then case when c.seen then 'joined' end
                when not c.seen then 'left'
                when c.before - '{sessions, joined_at}'::text[] <> c.after - '{sessions, joined_at}'::text[] then 'updated'
            end,
            c.reason, c.last_seen
        )::headcount.touched
        from (
            select
                t.room_id, t.user_id, t.before, t.reason, t.last_seen, t.ordinality,
                coalesce(t.after, m.member) as after, coalesce(t.after, m.member, 'null') <> 'null' as seen
            from unnest(p_touched) with ordinality t
            left join lateral (
                select headcount.member(r) as member
                from headcount.rosters r
                where t.after is null and r.room_id = t.room_id and r.user_id = t.user_id
                offset 0
            ) m on true
        ) c
        order by c.ordinality
    );
end
$$;

-- Logs each difference between what was remembered and what is now as one event. Gives the list, compared.
-- needs: the rooms locked, and the users of those who leave.
create or replace function headcount.log_changes(p_touched headcount.touched[]) returns headcount.touched[]
language plpgsql as $$
declare
    v_compared headcount.touched[] := headcount.compare(p_touched);
begin
    perform headcount.append_events(v_compared);
    if exists (select from unnest(v_compared) t where t.kind = 'left' and t.last_seen is not null) then
        perform headcount.profiles_are_told(true);
        update headcount.users u
        set last_seen_at = t.last_seen
        from (
            select t.user_id, max(t.last_seen) as last_seen
            from unnest(v_compared) t
            where t.kind = 'left' and t.last_seen is not null
            group by t.user_id
        ) t
        where u.user_id = any (array[t.user_id]) and (u.last_seen_at >= t.last_seen) is not true;
        perform headcount.profiles_are_told(false);
    end if;
    return v_compared;
end
$$;

-- One notification per transaction, last: the marks of rooms, in payloads well under the 8000 bytes that Postgres allows. A
-- hint only; the log is the truth.
create or replace function headcount.notify_marks(p_marks bigint[]) returns void language plpgsql as $$
begin
    perform pg_notify('headcount', string_agg(n.mark::text, ' '))
    from (select m.mark, m.place / 330 as payload from unnest(p_marks) with ordinality m (mark, place)) n
    group by n.payload;
end
$$;

-- Tells webhooks and replicas of the rooms that have moved since they were locked. Every writing function calls it
-- once, after log_changes.
create or replace function headcount.announce(p_locked headcount.room_version[]) returns void language plpgsql as $$
begin
    perform headcount.fill_outbox(p_locked);
    perform headcount.notify_marks(array(
        select r.mark
        from unnest(p_locked) l
        cross join lateral (
            select r.mark from headcount.rooms r
            where r.room_id = l.room_id and r.version > l.version
            offset 0
        ) r
        order by r.mark
    ));
end
$$;
