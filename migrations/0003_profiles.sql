-- Profiles. Changing a name or an avatar is an `updated` event in every room the user is in.

create type headcount.profile as (user_id text, name text, avatar_url text, show_last_seen text);
comment on type headcount.profile is 'A null keeps what is stored; an empty avatar_url removes it.';

-- One profile for each user: the last name and the last avatar that were given.
create function headcount.merge_profiles(p_profiles headcount.profile[])
returns headcount.profile[] language plpgsql immutable as $$
begin
    return array(
        select (
            p.user_id,
            (array_agg(p.name) filter (where p.name is not null))[1],
            (array_agg(p.avatar_url) filter (where p.avatar_url is not null))[1],
            (array_agg(p.show_last_seen) filter (where p.show_last_seen is not null))[1]
        )::headcount.profile
        from (
            select p.*
            from unnest(p_profiles) with ordinality p (user_id, name, avatar_url, show_last_seen, n)
            order by p.user_id, p.n desc
        ) p
        group by p.user_id
    );
end
$$;

-- locks: users by key, creating those of the profiles, one each, that are new.
-- One pass for both, as in create_rooms. A user whom nobody knows is locked too, by creating and removing them:
-- whoever else wants to create them waits for this transaction, so a leave never passes by its own join.
create function headcount.create_users(p_users text[], p_profiles headcount.profile[])
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
            select given.user_id, '', null, 2
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

-- The same, but does not wait long: another batch holds a user for milliseconds, a person with psql for minutes.
-- Gives whether it has them, all or none, as in try_create_rooms.
create function headcount.try_create_users(p_users text[], p_profiles headcount.profile[])
returns boolean language plpgsql
set lock_timeout = '50 ms'
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

-- locks: users by key, creating those of the profiles, one each, that are new.
-- While a user is locked nobody can join as them, so the set of their rooms cannot grow.
-- Without p_wait users whom somebody holds are left out. Gives those. p_users are each there once.
create function headcount.lock_users(
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
    if v_held <> '{}' and headcount.try_create_users(v_held, p_profiles) then
        v_held := '{}';
    end if;
    if v_new <> '{}' and not headcount.try_create_users(v_new, p_profiles) then
        v_held := v_held || v_new;
    end if;
    return v_held;
end
$$;

-- Whose profile these change. needs: the users locked.
create function headcount.changed_by(p_profiles headcount.profile[]) returns text[] language plpgsql stable as $$
begin
    return array(
        select u.user_id
        from unnest(p_profiles) p
        join headcount.users u on u.user_id = any (array[p.user_id])
        where u.name <> coalesce(p.name, u.name)
           or nullif(p.avatar_url, '') is distinct from u.avatar_url and p.avatar_url is not null
    );
end
$$;

create function headcount.rooms_of(p_users text[]) returns text[] language plpgsql stable as $$
begin
    return array(select m.room_id from headcount.memberships m where m.user_id = any (p_users));
end
$$;

-- needs: the users in p_changed and all their rooms locked.
create function headcount.change_profiles(p_profiles headcount.profile[], p_changed text[])
returns void language plpgsql as $$
declare
    v_touched headcount.touched[];
begin
    if cardinality(p_changed) = 0 then
        return;
    end if;
    v_touched := headcount.remember(array(
        select distinct (0, m.room_id, m.user_id, null)::headcount.touch
        from headcount.memberships m
        where m.user_id = any (p_changed)
    ));
    update headcount.users u
    set name = coalesce(p.name, u.name),
        avatar_url = case when p.avatar_url is null then u.avatar_url else nullif(p.avatar_url, '') end,
        updated_at = now()
    from unnest(p_profiles) p
    where u.user_id = any (array[p.user_id]) and p.user_id = any (p_changed);
    perform headcount.log_changes(v_touched);
end
$$;

create function headcount.put_users(p_profiles headcount.profile[])
returns table (user_id text, name text, avatar_url text, show_last_seen text) language plpgsql
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_profiles headcount.profile[] := headcount.merge_profiles(p_profiles);
    v_users    text[] := array(select p.user_id from unnest(v_profiles) p);
    v_changed  text[];
    v_locked   headcount.room_version[];
begin
    perform headcount.lock_users(v_users, v_profiles);
    v_changed := headcount.changed_by(v_profiles);
    v_locked := headcount.lock_rooms(headcount.rooms_of(v_changed));
    perform headcount.change_profiles(v_profiles, v_changed);
    -- No room shows this: no event.
    update headcount.users u
    set show_last_seen = p.show_last_seen, updated_at = now()
    from unnest(v_profiles) p
    where u.user_id = any (array[p.user_id]) and p.show_last_seen <> u.show_last_seen;
    perform headcount.announce(v_locked);
    return query
    select u.user_id, u.name, u.avatar_url, u.show_last_seen
    from headcount.users u
    where u.user_id = any (v_users);
end
$$;
comment on function headcount.put_users is 'Creates or changes profiles, all or none.';

-- locks: the user, their rooms, their sessions, their memberships.
create function headcount.erase_user(p_user text) returns boolean language plpgsql as $$
declare
    v_locked  headcount.room_version[];
    v_touched headcount.touched[];
begin
    perform headcount.lock_users(array[p_user]);
    v_locked := headcount.lock_rooms(headcount.rooms_of(array[p_user]));
    perform from headcount.presence p where p.user_id = p_user order by p.session_id for update;
    v_touched := headcount.remember(array(
        select distinct (0, m.room_id, m.user_id, 'left')::headcount.touch
        from headcount.memberships m
        where m.user_id = p_user
    ));
    delete from headcount.memberships m where m.user_id = p_user;
    delete from headcount.presence p where p.user_id = p_user;
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    update headcount.events e set member = null where e.user_id = p_user and e.member is not null;
    delete from headcount.departures d where d.user_id = p_user;
    delete from headcount.users u where u.user_id = p_user;
    return found;
end
$$;
comment on function headcount.erase_user is
    'Ends the user''s presence, and removes their profile, what the log says of it, and whose their sessions were. Scans the log: rare by design.';
