-- Profiles. Changing a name or an avatar is an `updated` event in every room the user is in.

create type headcount.profile as (user_id text, name text, avatar_url text);
comment on type headcount.profile is 'A null keeps what is stored; an empty avatar_url removes it.';

-- locks: users by key, creating those that are new. Gives the ids of those whose profile will change.
-- While a user is locked nobody can join as them, so the set of their rooms cannot grow.
create function headcount.lock_users(p_users text[], p_profiles headcount.profile[] default '{}')
returns text[] language plpgsql as $$
begin
    loop
        insert into headcount.users (user_id, name, avatar_url)
        select distinct on (p.user_id) p.user_id, coalesce(p.name, p.user_id), nullif(p.avatar_url, '')
        from unnest(p_profiles) p
        order by p.user_id
        on conflict (user_id) do nothing;

        perform from headcount.users u where u.user_id = any (p_users) order by u.user_id for no key update;

        -- Again only if an erasure took a row between the two.
        exit when not exists (
            select from unnest(p_profiles) p
            where not exists (select from headcount.users u where u.user_id = p.user_id)
        );
    end loop;

    return array(
        select distinct u.user_id
        from unnest(p_profiles) p
        join headcount.users u on u.user_id = p.user_id
        where u.name <> coalesce(p.name, u.name)
           or nullif(p.avatar_url, '') is distinct from u.avatar_url and p.avatar_url is not null
    );
end
$$;

create function headcount.rooms_of(p_users text[]) returns text[] language sql stable as $$
    select array(select distinct m.room_id from headcount.memberships m where m.user_id = any (p_users))
$$;

-- needs: the users in p_changed and all their rooms locked. Of several profiles of a user the last name
-- and the last avatar given count.
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
    from (
        select
            given.user_id,
            (array_agg(given.name order by given.n desc) filter (where given.name is not null))[1] as name,
            (array_agg(given.avatar_url order by given.n desc) filter (where given.avatar_url is not null))[1]
                as avatar_url
        from unnest(p_profiles) with ordinality given (user_id, name, avatar_url, n)
        group by given.user_id
    ) p
    where u.user_id = p.user_id and u.user_id = any (p_changed);
    perform headcount.log_changes(v_touched);
end
$$;

create function headcount.put_users(p_profiles headcount.profile[])
returns table (user_id text, name text, avatar_url text) language plpgsql as $$
#variable_conflict use_column
declare
    v_users   text[] := array(select p.user_id from unnest(p_profiles) p);
    v_changed text[] := headcount.lock_users(v_users, p_profiles);
    v_locked  headcount.room_version[] := headcount.lock_rooms(headcount.rooms_of(v_changed));
begin
    perform headcount.change_profiles(p_profiles, v_changed);
    perform headcount.announce(v_locked);
    return query
    select u.user_id, u.name, u.avatar_url from headcount.users u where u.user_id = any (v_users);
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
    delete from headcount.users u where u.user_id = p_user;
    return found;
end
$$;
comment on function headcount.erase_user is
    'Ends the user''s presence and removes their profile and what the log says of it. Scans the log: rare by design.';
