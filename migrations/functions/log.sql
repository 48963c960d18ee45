-- How a change becomes history: versions, events and counts, the outbox of webhooks, one notification.

-- Compares what was remembered with what is now, and logs each difference as one event.
-- needs: the rooms locked, and the users of those who leave. Gives every touched member as they see themselves now,
-- null for nobody.
create or replace function headcount.log_changes(p_touched headcount.touched[])
returns table (ord integer, room_id text, created boolean, member jsonb)
language plpgsql as $$
#variable_conflict use_column
begin
    return query
    with compared as materialized (
        select
            t.ord, t.room_id, t.user_id, t.before, t.reason, t.last_seen,
            nullif(coalesce(t.after, m.member), 'null') as after, t.after = 'null' as gone
        from unnest(p_touched) t
        left join lateral (
            select headcount.member(r) as member
            from headcount.rosters r
            where t.after is null and r.room_id = t.room_id and r.user_id = t.user_id
            offset 0
        ) m on true
    ), change as materialized (
        select
            c.*,
            case when c.before is null then 'joined' when c.after is null then 'left' else 'updated' end as kind,
            row_number() over (partition by c.room_id order by c.ord) as n
        from compared c
        where case
            when c.before is null or c.after is null then c.before is distinct from c.after
            else c.before - '{sessions,joined_at}'::text[] <> c.after - '{sessions,joined_at}'::text[]
        end
    ), logged as (
        insert into headcount.events (room_id, version, kind, user_id, member, reason)
        select c.room_id, r.version + c.n, c.kind, c.user_id, c.after, case when c.kind = 'left' then c.reason end
        from change c
        join headcount.rooms r on r.room_id = any (array[c.room_id])
    ), counted as (
        update headcount.rooms r
        set version = r.version + c.events,
            member_count = r.member_count + c.gain,
            epoch = c.lineage || substr(r.epoch, 9)
        from (
            select
                room_id,
                count(*) as events,
                count(*) filter (where kind = 'joined') - count(*) filter (where kind = 'left') as gain,
                (select headcount.lineage()) as lineage
            from change
            group by room_id
        ) c
        where r.room_id = any (array[c.room_id])
    ), seen as (
        update headcount.users u
        set last_seen_at = c.last_seen
        from (
            select user_id, max(last_seen) as last_seen from change where kind = 'left' group by user_id
        ) c
        where u.user_id = any (array[c.user_id]) and (u.last_seen_at >= c.last_seen) is not true
    )
    select
        c.ord, c.room_id, c.before is null and c.after is not null,
        case when c.gone is not true then coalesce(c.after, (
            select headcount.unseen_member(u)
            from headcount.unseen u
            where u.room_id = c.room_id and u.user_id = c.user_id
            offset 0
        )) end
    from compared c;
end
$$;

-- One notification per transaction, last: pairs `room:version`, in payloads well under the 8000 bytes that
-- Postgres allows. A hint only; the log is the truth.
create or replace function headcount.notify_rooms(p_moved headcount.room_version[]) returns void language plpgsql as $$
begin
    perform pg_notify('headcount', string_agg(changed.pair, ' '))
    from (
        select
            m.room_id || ':' || m.version as pair,
            sum(length(m.room_id) + 21) over (order by m.room_id) / 7000 as payload
        from unnest(p_moved) m
    ) changed
    group by changed.payload;
end
$$;

-- Of the rooms that have moved since they were locked, one row each, when anybody is to be told.
create or replace function headcount.note_moved(p_locked headcount.room_version[]) returns void language plpgsql as $$
begin
    if exists (select from headcount.webhooks w where w.enabled) then
        insert into headcount.webhook_outbox (room_id, epoch, before, head, count)
        select r.room_id, r.epoch, l.version, r.version, r.member_count
        from unnest(p_locked) l
        cross join lateral (
            select r.room_id, r.epoch, r.version, r.member_count from headcount.rooms r
            where r.room_id = l.room_id and r.version > l.version
            offset 0
        ) r;
    end if;
end
$$;

-- Tells of the rooms that have moved since they were locked.
create or replace function headcount.announce(p_locked headcount.room_version[]) returns void language plpgsql as $$
begin
    perform headcount.note_moved(p_locked);
    perform headcount.notify_rooms(array(
        select (r.room_id, r.version)::headcount.room_version
        from unnest(p_locked) l
        cross join lateral (
            select r.room_id, r.version from headcount.rooms r
            where r.room_id = l.room_id and r.version > l.version
            offset 0
        ) r
    ));
end
$$;

-- The same, for a caller that knows where they are now.
create or replace function headcount.announce(p_locked headcount.room_version[], p_moved headcount.room_version[])
returns void language plpgsql as $$
begin
    perform headcount.note_moved(p_locked);
    perform headcount.notify_rooms(p_moved);
end
$$;
