-- Locks, always in this order: users by key, rooms by key, presence by key, memberships by key.

-- An upsert that locks: creates rooms that are new, and locks all. One pass for both, because two passes would be two lock
-- orders, and a room could be forgotten between them. `where false` locks an existing row and leaves it unchanged.
-- locks: rooms in key order.
create or replace function headcount.create_rooms(p_rooms text[]) returns void language plpgsql as $$
begin
    insert into headcount.rooms as r (room_id, epoch, mark)
    select wanted.room_id, e.epoch, headcount.mark_in(k.key, wanted.room_id)
    from (select distinct unnest(p_rooms) collate "C" as room_id) wanted, headcount.epoch() as e (epoch),
        headcount.notification_key k
    order by wanted.room_id
    on conflict (room_id) do update set epoch = r.epoch where false;
end
$$;

-- The same, with a timeout of 10 ms for another transaction that is creating one of them and has not committed. Gives
-- whether it has them, all or none: only a sub-transaction can stop waiting, and one for each room would be dear.
-- locks: rooms in key order.
create or replace function headcount.try_create_rooms(p_rooms text[]) returns boolean language plpgsql
set lock_timeout = '10 ms'
as $$
begin
    perform headcount.create_rooms(p_rooms);
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Locks rooms that exist, and creates and locks those in p_create; waits. Gives their versions under the lock.
-- locks: rooms in key order.
create or replace function headcount.lock_rooms(p_rooms text[], p_create text[] default '{}')
returns headcount.room_version[] language plpgsql as $$
declare
    v_rooms text[] := array(
        select unnest(p_create)
        union
        select r.room_id from headcount.rooms r where r.room_id = any (p_rooms)
    );
begin
    perform headcount.create_rooms(v_rooms);
    return array(
        select (r.room_id, r.version)::headcount.room_version from headcount.rooms r where r.room_id = any (v_rooms)
    );
end
$$;

-- Locks rooms that exist (each named once), but skips those that another transaction holds. locks: rooms in key order.
create or replace function headcount.try_lock_rooms(p_rooms text[]) returns headcount.room_version[]
language plpgsql as $$
begin
    return array(
        select (r.room_id, r.version)::headcount.room_version
        from (select unnest(p_rooms) collate "C" as room_id order by room_id) given
        cross join lateral (
            select r.room_id, r.version from headcount.rooms r
            where r.room_id = given.room_id
            for update skip locked
        ) r
    );
end
$$;

-- An upsert that locks, as create_rooms: creates users of the profiles (one each) that are new, and locks all. An unknown
-- user without a profile is locked, too, by an insert that is deleted again: a concurrent create of the same user
-- waits for this transaction, so a leave cannot race past its own join. locks: users in key order.
create or replace function headcount.create_users(p_users text[], p_profiles headcount.profile[])
returns void language plpgsql as $$
declare
    v_created text[];
begin
    with created as (
        insert into headcount.users as u (user_id, name, avatar_url)
        select distinct on (wanted.user_id) wanted.user_id, wanted.name, wanted.avatar_url
        from (
            select p.user_id collate "C", coalesce(p.name, p.user_id), nullif(p.avatar_url, ''), 1
            from unnest(p_profiles) p
            union all
            select given.user_id, given.user_id, null, 2
            from unnest(p_users) given (user_id)
        ) wanted (user_id, name, avatar_url, choice)
        order by wanted.user_id, wanted.choice
        on conflict (user_id) do update set name = u.name where false
        returning u.user_id
    )
    select array_agg(c.user_id) into v_created from created c;
    delete from headcount.users u
    where u.user_id = any (array(select unnest(v_created) except select p.user_id from unnest(p_profiles) p));
end
$$;

-- The same, with a timeout of 10 ms for another transaction that is creating one of them and has not committed. Gives
-- whether it has them, all or none, as in try_create_rooms. locks: users in key order.
create or replace function headcount.try_create_users(p_users text[], p_profiles headcount.profile[])
returns boolean language plpgsql
set lock_timeout = '10 ms'
as $$
begin
    perform headcount.create_users(p_users, array(
        select p from unnest(p_profiles) p where p.user_id = any (p_users)
    ));
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Locks users (each named once), creating those of the profiles that are new. While a user is locked nobody can join as
-- them, so the set of their rooms cannot grow. Without p_wait users that another transaction holds are skipped; gives those.
-- locks: users in key order.
create or replace function headcount.lock_users(
    p_users text[], p_profiles headcount.profile[] default '{}', p_wait boolean default true
)
returns text[] language plpgsql as $$
declare
    v_locked text[];
    v_held   text[];
    v_new    text[];
begin
    if p_wait then
        perform headcount.create_users(p_users, p_profiles);
        return '{}';
    end if;
    v_locked := array(
        select u.user_id
        from (select distinct unnest(p_users) collate "C" as user_id order by user_id) given
        cross join lateral (
            select u.user_id from headcount.users u where u.user_id = given.user_id for no key update skip locked
        ) u
    );
    if cardinality(v_locked) = cardinality(p_users) then
        return '{}'; -- nearly always
    end if;
    v_held := array(
        select u.user_id from headcount.users u where u.user_id = any (p_users)
        except
        select unnest(v_locked)
    );
    v_new := array(select unnest(p_users) except select unnest(v_locked) except select unnest(v_held));
    -- Polled, 50 ms at most: another batch holds a user for milliseconds, a person with psql for minutes. A wait out of the
    -- lock order would close a cycle, and the deadlock detector of a transaction that waits for longer would see it.
    for v_try in 1 .. 10 loop
        exit when v_held = '{}';
        perform pg_sleep(0.005);
        v_held := headcount.try_lock_users(v_held);
    end loop;
    if v_new <> '{}' and not headcount.try_create_users(v_new, p_profiles) then
        v_held := v_held || v_new;
    end if;
    return v_held;
end
$$;

create or replace function headcount.rooms_of(p_users text[]) returns text[] language plpgsql stable as $$
begin
    return array(select m.room_id from headcount.memberships m where m.user_id = any (p_users));
end
$$;

-- locks: the users of a batch, in key order, creating those that join and are new. Gives the first verdicts: `busy`
-- where somebody holds the user.
create or replace function headcount.lock_users_of(p_commands headcount.command[], p_wait boolean)
returns headcount.verdict[] language plpgsql as $$
declare
    v_held text[] := headcount.lock_users(
        array(select distinct c.user_id from unnest(p_commands) c),
        headcount.merge_profiles(array(
            select (c.user_id, c.name, c.avatar_url, null)::headcount.profile
            from unnest(p_commands) c
            where c.op = 'join'
            order by c.ord
        )),
        p_wait
    );
begin
    return array(
        select (
            case when c.user_id = any (v_held) then 'busy' end, null, null, null, null, null, null, null, null, null, null
        )::headcount.verdict
        from unnest(p_commands) with ordinality c
        order by c.ordinality
    );
end
$$;

-- The rooms that a batch needs, each once: the rooms of its commands, and all rooms of users whose profile changes.
create or replace function headcount.rooms_needed(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_changed text[]
)
returns text[] language plpgsql stable as $$
begin
    return array(
        select c.room_id from unnest(p_commands, p_verdicts) c where c.outcome is null
        union
        select m.room_id from headcount.memberships m where m.user_id = any (p_changed)
    );
end
$$;

-- Locks the rooms of a batch, creating those of joins. Without p_wait the rooms that another transaction holds are skipped,
-- and new rooms that another one is creating. locks: rooms in key order.
create or replace function headcount.lock_rooms_of(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_rooms text[], p_wait boolean
)
returns headcount.room_version[] language plpgsql as $$
declare
    v_locked headcount.room_version[];
    v_joined text[];
    v_new    text[];
begin
    if not p_wait then
        v_locked := headcount.try_lock_rooms(p_rooms);
        if cardinality(v_locked) = cardinality(p_rooms) then
            return v_locked; -- nearly always
        end if;
    end if;
    v_joined := array(
        select distinct c.room_id from unnest(p_commands, p_verdicts) c where c.outcome is null and c.op = 'join'
    );
    if p_wait then
        return headcount.lock_rooms(p_rooms, v_joined);
    end if;
    v_new := array(
        select unnest(v_joined) except select r.room_id from headcount.rooms r where r.room_id = any (v_joined)
    );
    if v_new <> '{}' and headcount.try_create_rooms(v_new) then
        v_locked := v_locked || array(
            select (r.room_id, r.version)::headcount.room_version from headcount.rooms r where r.room_id = any (v_new)
        );
    end if;
    return v_locked;
end
$$;
