-- Webhooks: events of rooms, delivered to the operator's receivers by HTTP, at least once and in order in each room.
--
-- Cursors. The log has a version in each room and no order over all rooms, and none is cheap: a sequence is no cursor,
-- because a smaller number may commit later, and reading up to the oldest running transaction (an xid8 column on events)
-- would let one long transaction anywhere in the cluster hold back every webhook. So a webhook has a cursor for each room
-- in which it lags.
--
-- Outbox. The rooms that have moved are not found by polling all rooms, nor by a dirty flag: a flag that is already set
-- cannot be set by a second writer, and the first reader would clear it under that writer (a lost update). Instead a
-- transaction inserts a row for each room that it moved, which commits with its events and is deleted only by a reader
-- that has seen it. Nothing is skipped, in whichever order transactions commit, and writers never wait for a webhook, nor
-- for each other because of one. announce fills the outbox; without an enabled webhook that is one look at a small table.
--
-- Routing. A replica moves rows of the outbox to the webhooks that want the room: one row for each room in which a webhook
-- lags, from which version, to which. Rows of several transactions coalesce, so an outage of a receiver costs a row for each
-- room and not for each event: the events are in the log, and the trim waits for them (webhook_retention).
--
-- Batches. The events of a delivery are decided once and stored until they are accepted (webhook_batches), and the cursors
-- move in the same transaction. So a retry has the same id and the same content, whichever replica sends it.
--
-- Locks, always in this order: webhook_router, for the outbox, webhook_deliveries, webhook_rooms by key, webhook_batches.
-- No room and no user is ever locked here.

-- One row for each room that has moved since it was locked; a no-op while no webhook is enabled. needs: the rooms locked.
create or replace function headcount.fill_outbox(p_locked headcount.room_version[]) returns void language plpgsql as $$
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

-- Waits for the outbox. A row of a table of our own, because any role may take an advisory lock. It is written to disk, so
-- nobody takes it to look into an empty outbox. locks: the outbox's, webhook_router.
create or replace function headcount.lock_outbox() returns void language plpgsql as $$
begin
    perform from headcount.webhook_router for update;
end
$$;

create or replace function headcount.webhook_wants(p_patterns text[], p_room text) returns boolean language sql immutable as $$
    select exists (
        select from unnest(p_patterns) p where headcount.matches(p, p_room)
    )
$$;

-- Moves rows of the outbox to the webhooks; a no-op while another replica does. The rows of a room are its next events
-- without a gap, and the oldest are taken, because writers of a room are serialized by its lock.
-- locks: the outbox's, if nobody holds it; rooms of webhooks by key.
create or replace function headcount.webhook_route(p_limit integer) returns void language plpgsql
set headcount.planner = 'nested_loops'
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    perform from headcount.webhook_router for update skip locked;
    if not found then
        return;
    end if;
    with taken as (
        delete from headcount.webhook_outbox o
        where o.seq = any (array(select f.seq from headcount.webhook_outbox f order by f.seq limit p_limit))
        returning o.seq, o.room_id, o.epoch, o.before, o.head, o.count
    ), span as materialized (
        select distinct on (t.room_id, t.epoch)
            t.room_id, t.epoch, t.seq, t.before, t.head as first_head, t.count as first_count,
            max(t.head) over (partition by t.room_id, t.epoch) as head
        from taken t
        order by t.room_id, t.epoch, t.seq
    )
    insert into headcount.webhook_rooms as r (name, room_id, epoch, seq, version, head, count, due_at, since)
    select w.name, s.room_id, s.epoch, s.seq, s.before, s.head, s.first_count - m.gain, v_now, coalesce(m.since, v_now)
    from span s
    join headcount.webhooks w on w.enabled and headcount.webhook_wants(w.rooms, s.room_id)
    -- The change of the count by the first transaction, to get the count before it.
    cross join lateral (
        select
            (count(*) filter (where e.kind = 'joined') - count(*) filter (where e.kind = 'left'))::integer as gain,
            min(e.at) as since
        from headcount.events e
        where e.room_id = s.room_id and e.version > s.before and e.version <= s.first_head
        offset 0
    ) m
    order by w.name, s.room_id, s.epoch
    on conflict (name, room_id, epoch) do update set head = greatest(r.head, excluded.head);
end
$$;

-- How many members a room had at a version: the count of now, undone through the log. A webhook keeps its own count;
-- this is asked only after a gap. More than 500,000 versions back it would take too long: then it is the count of now,
-- until the webhook has caught up.
create or replace function headcount.webhook_members(p_room text, p_version bigint) returns integer language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(
        case when r.version - p_version > 500000 then r.member_count else greatest(0, r.member_count - (
            select count(*) filter (where e.kind = 'joined') - count(*) filter (where e.kind = 'left')
            from headcount.events e
            where e.room_id = r.room_id and e.version > p_version and e.version <= r.version
        )) end
    ), 0)::integer
    from headcount.rooms r
    where r.room_id = p_room
$$;

-- No delay or backoff here is longer than some minutes. A time further ahead was written before the clock went back.
create or replace function headcount.webhook_is_due(p_at timestamptz, p_now timestamptz) returns boolean language sql immutable as $$
    select p_at <= p_now or p_at > p_now + interval '10 min'
$$;

-- One poll: routes, and claims the webhooks that have work and no replica at it. Gives whether any webhook is enabled,
-- whether more is to be routed, and the claimed webhooks. At most p_limit rows are written, which takes about half a
-- second. locks: as webhook_route; the deliveries that it claims, skipping what is locked.
create or replace function headcount.webhook_tick(
    p_claim uuid, p_replica text, p_lease interval default '5 s', p_limit integer default 20000
)
returns table (enabled boolean, more boolean, claimed text[]) language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
begin
    if exists (select from headcount.webhook_outbox) then
        perform headcount.webhook_route(
            p_limit / (select greatest(1, count(*)) from headcount.webhooks w where w.enabled)::integer
        );
    end if;
    v_now := clock_timestamp();
    if not exists (select from headcount.webhooks w where w.enabled) then
        return query select false, false, '{}'::text[];
        return;
    end if;
    return query
    with due as (
        select d.name
        from headcount.webhook_deliveries d
        join headcount.webhooks w on w.name = d.name
        where w.enabled and headcount.webhook_is_due(d.leased_until, v_now)
          and headcount.webhook_is_due(d.next_attempt_at, v_now)
          and (
              exists (select from headcount.webhook_batches b where b.name = d.name)
              or exists (
                  select from headcount.webhook_rooms r
                  where r.name = d.name and (r.due_at <= v_now or r.due_at > v_now + interval '10 min')
              )
          )
        order by d.name
        for update of d skip locked
    ), claimed as (
        update headcount.webhook_deliveries d
        set claim = p_claim, replica = p_replica, leased_until = v_now + p_lease
        from due
        where d.name = due.name
        returning d.name
    )
    select true, exists (select from headcount.webhook_outbox), coalesce(array_agg(c.name), '{}') from claimed c;
end
$$;

-- Renews a claim for another lease. Gives the webhook, and the batch to send if there is one; nothing when the claim is
-- lost or the webhook disabled. locks: the delivery.
create or replace function headcount.webhook_hold(p_name text, p_claim uuid, p_lease interval default '5 s')
returns table (
    url text, types text[], leave_delay_ms bigint, secrets text[], attempts integer, now timestamptz,
    batch_id uuid, made_at timestamptz, events jsonb
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update headcount.webhook_deliveries d set leased_until = clock_timestamp() + p_lease
    where d.name = p_name and d.claim = p_claim;
    if not found then
        return;
    end if;
    return query
    select
        w.url, w.types, (extract(epoch from w.leave_delay) * 1000)::bigint, s.secrets, d.attempts, clock_timestamp(),
        b.batch_id, b.made_at, b.events
    from headcount.webhooks w
    join headcount.webhook_secrets s on s.name = w.name
    join headcount.webhook_deliveries d on d.name = w.name
    left join headcount.webhook_batches b on b.name = w.name
    where w.name = p_name and w.enabled;
end
$$;

-- locks: the delivery. Gives whether the claim holds.
create or replace function headcount.webhook_lock_delivery(p_name text, p_claim uuid) returns boolean language plpgsql as $$
begin
    perform from headcount.webhook_deliveries d where d.name = p_name and d.claim = p_claim for update;
    return found;
end
$$;

-- Stores a batch and moves the cursors past it, in one transaction. A room whose cursor is not where the caller read it
-- means a bug, or a claim that was lost: then it is a no-op. locks: the delivery, its rooms by key, its batch.
create or replace function headcount.webhook_make(p_name text, p_claim uuid, p_batch uuid, p_events jsonb, p_rooms jsonb)
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'nested_loops'
as $$
declare
    v_rooms headcount.webhook_progress[] := array(
        select p from jsonb_populate_recordset(null::headcount.webhook_progress, p_rooms) p
    );
    v_found integer;
begin
    if not headcount.webhook_lock_delivery(p_name, p_claim) then
        return false;
    end if;
    select count(*) into v_found
    from (select p.room_id, p.epoch, p."from" from unnest(v_rooms) p order by p.room_id collate "C", p.epoch) p
    cross join lateral (
        select from headcount.webhook_rooms r
        where r.name = p_name and r.room_id = p.room_id and r.epoch = p.epoch and r.version = p."from"
        for update
    ) r;
    if v_found <> cardinality(v_rooms) or exists (select from headcount.webhook_batches b where b.name = p_name) then
        return false;
    end if;
    if p_events <> '[]' then
        insert into headcount.webhook_batches (name, batch_id, events, since)
        select p_name, p_batch, p_events, min(r.since)
        from unnest(v_rooms) p
        join headcount.webhook_rooms r on r.name = p_name and r.room_id = p.room_id and r.epoch = p.epoch;
    end if;
    update headcount.webhook_rooms r
    set version = p.version, count = p.count, returns = p.returns, occupies = p.occupies,
        due_at = p.due_at, since = coalesce(p.since, r.since)
    from unnest(v_rooms) p
    where r.name = p_name and r.room_id = p.room_id and r.epoch = p.epoch;
    delete from headcount.webhook_rooms r
    using unnest(v_rooms) p
    where r.name = p_name and r.room_id = p.room_id and r.epoch = p.epoch and r.version >= r.head;
    return true;
end
$$;

-- Idempotent, and whichever claim sent it: the receiver has it. locks: the delivery, its batch.
create or replace function headcount.webhook_accept(p_name text, p_batch uuid) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from headcount.webhook_deliveries d where d.name = p_name for update;
    with accepted as (
        delete from headcount.webhook_batches b
        where b.name = p_name and b.batch_id = p_batch
        returning jsonb_array_length(b.events) as events
    )
    update headcount.webhook_deliveries d
    set attempts = 0, next_attempt_at = '-infinity', last_accepted_at = clock_timestamp(), accepted = d.accepted + a.events
    from accepted a
    where d.name = p_name;
end
$$;

-- locks: the delivery.
create or replace function headcount.webhook_fail(p_name text, p_claim uuid, p_error text, p_retry interval)
returns void language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    update headcount.webhook_deliveries d
    set attempts = d.attempts + 1, next_attempt_at = clock_timestamp() + p_retry, last_error = p_error,
        last_failed_at = clock_timestamp(), claim = null, leased_until = '-infinity'
    where d.name = p_name and d.claim = p_claim
$$;

-- locks: the delivery.
create or replace function headcount.webhook_release(p_name text, p_claim uuid) returns void language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    update headcount.webhook_deliveries d set claim = null, leased_until = '-infinity'
    where d.name = p_name and d.claim = p_claim
$$;

-- Drops cursors and batch: a disabled webhook collects nothing, and begins anew. needs: the outbox's lock.
create or replace function headcount.webhook_forget(p_name text) returns void language plpgsql as $$
begin
    perform from headcount.webhook_deliveries d where d.name = p_name for update;
    delete from headcount.webhook_rooms r where r.name = p_name;
    delete from headcount.webhook_batches b where b.name = p_name;
end
$$;

-- locks: the outbox's, the delivery, its rooms, its batch.
create or replace function headcount.webhook_gone(p_name text, p_claim uuid, p_error text) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform headcount.lock_outbox();
    if not headcount.webhook_lock_delivery(p_name, p_claim) then
        return;
    end if;
    update headcount.webhooks w set enabled = false, disabled_reason = 'gone', updated_at = clock_timestamp()
    where w.name = p_name;
    perform headcount.webhook_forget(p_name);
    update headcount.webhook_deliveries d
    set claim = null, leased_until = '-infinity', attempts = 0, last_error = p_error, last_failed_at = clock_timestamp()
    where d.name = p_name;
end
$$;

-- locks: the outbox's, the delivery, its rooms, its batch.
-- p_secrets null keeps the stored ones; a new webhook gets p_secret then. Gives `created`, `changed` or `full`.
create or replace function headcount.webhook_put(
    p_name text, p_url text, p_types text[], p_rooms text[], p_leave_delay interval, p_enabled boolean,
    p_secrets text[], p_secret text, p_most integer
)
returns text language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_known boolean;
begin
    perform headcount.lock_outbox();
    v_known := exists (select from headcount.webhooks w where w.name = p_name);
    if not v_known and (select count(*) from headcount.webhooks) >= p_most then
        return 'full';
    end if;
    -- Rows for webhooks that are gone: to a new webhook they would be old news.
    if not exists (select from headcount.webhooks w where w.enabled) then
        delete from headcount.webhook_outbox;
    end if;
    insert into headcount.webhook_secrets as s (name, secrets)
    values (p_name, coalesce(p_secrets, array[p_secret]))
    on conflict (name) do update set secrets = coalesce(p_secrets, s.secrets);
    insert into headcount.webhooks as w (name, url, types, rooms, leave_delay, enabled)
    values (p_name, p_url, p_types, p_rooms, p_leave_delay, p_enabled)
    on conflict (name) do update
    set url = excluded.url, types = excluded.types, rooms = excluded.rooms, leave_delay = excluded.leave_delay,
        enabled = excluded.enabled, disabled_reason = null, updated_at = clock_timestamp();
    update headcount.webhooks w set secret_count = cardinality(s.secrets)
    from headcount.webhook_secrets s
    where w.name = p_name and s.name = p_name;
    insert into headcount.webhook_deliveries (name) values (p_name)
    on conflict (name) do update set attempts = 0, next_attempt_at = '-infinity';
    if not p_enabled then
        perform headcount.webhook_forget(p_name);
    end if;
    return case when v_known then 'changed' else 'created' end;
end
$$;

-- locks: the outbox's, the delivery, its rooms, its batch.
create or replace function headcount.webhook_delete(p_name text) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform headcount.lock_outbox();
    perform headcount.webhook_forget(p_name);
    delete from headcount.webhook_deliveries d where d.name = p_name;
    delete from headcount.webhook_secrets s where s.name = p_name;
    delete from headcount.webhooks w where w.name = p_name;
    return found;
end
$$;

-- What webhooks have still to be told, in the log and in the outbox: nobody has moved that yet. Of the outbox 100,000 rows
-- are counted at most. `events` are those of the rooms that a webhook wants, whether they are something to tell or not.
create or replace function headcount.webhook_backlog(p_name text default null)
returns table (name text, events bigint, rooms bigint, since timestamptz) language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    with oldest as materialized (
        select o.room_id, o.before, o.head, o.seq from headcount.webhook_outbox o order by o.seq limit 100000
    )
    select w.name, coalesce(sum(p.events), 0)::bigint, count(distinct p.room_id), min(p.since)
    from headcount.webhooks w
    left join lateral (
        select r.room_id, r.head - r.version as events, r.since
        from headcount.webhook_rooms r
        where r.name = w.name
        union all
        select
            o.room_id, sum(o.head - o.before),
            (
                select min(e.at) from headcount.events e
                where e.room_id = o.room_id and e.version = min(o.before) + 1
            )
        from oldest o
        where w.enabled and headcount.webhook_wants(w.rooms, o.room_id)
        group by o.room_id
    ) p on true
    where p_name is null or w.name = p_name
    group by w.name
$$;
comment on function headcount.webhook_backlog is 'What webhooks have still to be told: events, their rooms, and since when.';

create or replace function headcount.webhook_target(p_name text) returns table (url text, secrets text[]) language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select w.url, s.secrets
    from headcount.webhooks w join headcount.webhook_secrets s on s.name = w.name
    where w.name = p_name
$$;
comment on function headcount.webhook_target is 'Where a webhook leads, and what signs.';

create or replace function headcount.webhook_retention(p_retention interval, p_keep interval) returns interval language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select greatest(
        p_retention,
        (
            select least(p_keep, clock_timestamp() - min(r.since) + interval '1 min')
            from headcount.webhook_rooms r
            having count(*) > 0
        )
    )
$$;
comment on function headcount.webhook_retention is
    'How long to keep the log, so that what webhooks have still to tell is in it; but no longer than p_keep.';

-- Erases a user's member from stored batches, as erase_user does in the log. A trigger, so that every way of deleting the
-- profile does it.
create or replace function headcount.webhook_erase() returns trigger language plpgsql as $$
begin
    update headcount.webhook_batches b
    set events = (
        select jsonb_agg(
            case when e.event ->> 'user' = old.user_id and e.event ? 'member'
                then e.event || '{"member": null}' else e.event end
            order by e.n
        )
        from jsonb_array_elements(b.events) with ordinality e (event, n)
    )
    where b.events @> jsonb_build_array(jsonb_build_object('user', old.user_id));
    return null;
end
$$;
