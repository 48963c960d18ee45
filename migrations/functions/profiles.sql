-- Profiles. Changing a name or an avatar is an `updated` event in every room the user is in.

-- One profile for each user: the last name and the last avatar that were given.
create or replace function headcount.merge_profiles(p_profiles headcount.profile[])
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

create or replace function headcount.users_of(p_profiles headcount.profile[]) returns text[] language plpgsql immutable as $$
begin
    return array(select p.user_id from unnest(p_profiles) p);
end
$$;

-- Those of the profiles that change something. needs: the users locked.
create or replace function headcount.changes_in(p_profiles headcount.profile[]) returns headcount.profile[]
language plpgsql stable as $$
begin
    return array(
        select p
        from unnest(p_profiles) p
        join headcount.users u on u.user_id = any (array[p.user_id])
        where u.name <> coalesce(p.name, u.name)
           or nullif(p.avatar_url, '') is distinct from u.avatar_url and p.avatar_url is not null
    );
end
$$;

-- Takes the name and the picture out of the joins whose token (`issued_at`, in seconds since 1970) is older than what an
-- application or the user has set since: a tab with an old token must not undo a rename. A join that says no such time
-- is an application's own. needs: the users locked.
create or replace function headcount.without_older_names(p_commands headcount.command[], p_given jsonb)
returns headcount.command[] language plpgsql stable as $$
declare
    v_older integer[] := array(
        select (j ->> 'ord')::integer
        from jsonb_array_elements(p_given) j
        cross join lateral (
            select u.named_at from headcount.users u where u.user_id = j ->> 'user_id' and u.named_at is not null
            offset 0
        ) u
        where j ? 'issued_at' and to_timestamp((j ->> 'issued_at')::double precision) < u.named_at
    );
    v_place integer;
begin
    if v_older = '{}' then
        return p_commands;
    end if;
    for v_place in select c.ordinality from unnest(p_commands) with ordinality c where c.ord = any (v_older) loop
        p_commands[v_place].name := null;
        p_commands[v_place].avatar_url := null;
    end loop;
    return p_commands;
end
$$;

-- What the undecided joins of a batch change about their users. needs: the users locked.
create or replace function headcount.changed_profiles(p_commands headcount.command[], p_verdicts headcount.verdict[])
returns headcount.profile[] language plpgsql stable as $$
begin
    return headcount.changes_in(headcount.merge_profiles(array(
        select (c.user_id, c.name, c.avatar_url, null)::headcount.profile
        from unnest(p_commands, p_verdicts) c
        where c.op = 'join' and c.outcome is null and (c.name is not null or c.avatar_url is not null)
        order by c.ord
    )));
end
$$;

-- Changes the profiles that the joins of a batch change. p_locked are the profiles for which all rooms of the user were
-- locked. Joins may have been refused since, so the changes are computed again, and limited to those users.
create or replace function headcount.change_profiles(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_locked headcount.profile[]
)
returns void language plpgsql as $$
begin
    if p_locked <> '{}' then
        perform headcount.write_profiles(array(
            select p from unnest(headcount.changed_profiles(p_commands, p_verdicts)) p
            where p.user_id = any (headcount.users_of(p_locked))
        ));
    end if;
end
$$;

-- Writes profiles that change something, with an `updated` in every room. needs: the users and all their rooms locked.
create or replace function headcount.write_profiles(p_profiles headcount.profile[]) returns void language plpgsql as $$
declare
    v_touched headcount.touched[];
begin
    if p_profiles = '{}' then
        return;
    end if;
    v_touched := headcount.remember_users(headcount.users_of(p_profiles));
    perform headcount.profiles_are_told(true);
    update headcount.users u
    set name = coalesce(p.name, u.name),
        avatar_url = case when p.avatar_url is null then u.avatar_url else nullif(p.avatar_url, '') end,
        updated_at = now()
    from unnest(p_profiles) p
    where u.user_id = any (array[p.user_id]);
    perform headcount.profiles_are_told(false);
    v_touched := headcount.log_changes(v_touched);
    -- The caller of `apply` charges them to each user. A setting of the transaction, because the rows that `apply` gives have
    -- no column for what hardly ever is.
    perform set_config('headcount.profile_events', (
        select jsonb_object_agg(t.user_id, t.events)::text
        from (select t.user_id, count(*) as events from unnest(v_touched) t where t.kind is not null group by t.user_id) t
    ), true);
end
$$;

-- Suppresses the trigger log_profiles while the functions themselves write to users: they have locked the rooms together
-- with everything else of their batch, log the change, and notify once. The trigger would find a no-op, at a tenth of the
-- cost of a single join. The setting ends with the transaction at the latest,
-- and counts for nobody else (triggers.sql).
create or replace function headcount.profiles_are_told(p_told boolean) returns void language plpgsql as $$
begin
    perform set_config('headcount.within_rules', case when p_told then 'on' else '' end, true);
end
$$;

-- locks: the users, their rooms if a profile changes.
create or replace function headcount.put_users(p_profiles headcount.profile[])
returns table (user_id text, name text, avatar_url text, show_last_seen text) language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
#variable_conflict use_column
declare
    v_profiles headcount.profile[] := headcount.merge_profiles(p_profiles);
    v_users    text[] := headcount.users_of(v_profiles);
    v_changed  headcount.profile[];
    v_locked   headcount.room_version[];
begin
    perform headcount.check_profiles(p_profiles);
    perform headcount.lock_users(v_users, v_profiles);
    v_changed := headcount.changes_in(v_profiles);
    v_locked := headcount.lock_rooms(headcount.rooms_of(headcount.users_of(v_changed)));
    perform headcount.write_profiles(v_changed);
    -- No room shows this: no event.
    perform headcount.profiles_are_told(true);
    update headcount.users u
    set show_last_seen = coalesce(p.show_last_seen, u.show_last_seen),
        named_at = case when p.name is null and p.avatar_url is null then u.named_at else clock_timestamp() end
    from unnest(v_profiles) p
    where u.user_id = any (array[p.user_id]);
    perform headcount.profiles_are_told(false);
    perform headcount.announce(v_locked);
    return query
    select u.user_id, u.name, u.avatar_url, u.show_last_seen
    from headcount.users u
    where u.user_id = any (v_users);
end
$$;
comment on function headcount.put_users is 'Creates or changes profiles, all or none.';

-- Profiles by plain SQL. An application that writes `update headcount.users set name = ...` need not know put_users:
-- triggers do the same. An `updated` in every room of the user, one version each, and one notification for the statement.
--
-- A statement locks the users it changes as it meets them; the rooms are locked after that, in key order, as
-- everywhere. Two statements that change the same users in different orders can deadlock, as on any table; Postgres aborts
-- one of them, and it can be retried. `where user_id in (select user_id ... order by user_id for update)` avoids it.

-- A plain insert needs no event: a user without a profile is in no room.
create or replace function headcount.check_profile() returns trigger language plpgsql as $$
begin
    if new.user_id <> old.user_id then
        raise 'the id of a user never changes'
            using errcode = 'restrict_violation', hint = 'Make another user, and erase this one.';
    end if;
    new.updated_at := now();
    -- The setting counts only for the owner, as in the condition of the trigger log_profiles.
    if (
        current_setting('headcount.within_rules', true) is distinct from 'on'
        or not has_function_privilege('headcount.profiles_are_told(boolean)'::regprocedure, 'execute')
    ) and (new.name, new.avatar_url) is distinct from (old.name, old.avatar_url) then
        new.named_at := clock_timestamp();
    end if;
    return new;
end
$$;

-- Logs the change of profiles. `before` is the member as it is now, with the replaced name and picture put back.
-- needs: the users locked, which the statement did, so that nobody joins as them. locks: their rooms.
create or replace function headcount.log_profiles() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
declare
    -- No join of the two: with the planner settings above it would be a nested loop over all pairs.
    v_changed text[] := array(
        select c.user_id
        from (
            select n.user_id, n.name, n.avatar_url from new_rows n
            except
            select o.user_id, o.name, o.avatar_url from old_rows o
        ) c
    );
    v_before  jsonb;
    v_locked  headcount.room_version[];
    v_touched headcount.touched[];
begin
    if v_changed = '{}' then
        return null;
    end if;
    v_locked := headcount.lock_rooms(headcount.rooms_of(v_changed));
    v_before := (
        select jsonb_object_agg(o.user_id, jsonb_build_object('name', o.name, 'avatar_url', o.avatar_url))
        from old_rows o
    );
    v_touched := array(
        select (
            t.room_id, t.user_id, t.before || (v_before -> t.user_id), t.after, t.kind, t.reason, t.last_seen
        )::headcount.touched
        from unnest(headcount.remember_users(v_changed)) t
    );
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    return null;
end
$$;

-- A profile that is deleted takes its user's presence with it, with a `left` in every room. The log keeps its events until
-- they are trimmed; headcount.erase_user removes those, too.
-- needs: the users locked, which the statement did. locks: their rooms, then their sessions.
create or replace function headcount.end_presence() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
declare
    v_gone     text[] := array(select o.user_id from old_rows o);
    v_rooms    text[] := headcount.rooms_of(v_gone);
    v_locked   headcount.room_version[];
    v_sessions uuid[];
    v_touched  headcount.touched[];
begin
    if v_rooms = '{}' then
        return null;
    end if;
    v_locked := headcount.lock_rooms(v_rooms);
    v_sessions := array(
        select p.session_id
        from (
            select distinct m.session_id from headcount.memberships m where m.user_id = any (v_gone) order by m.session_id
        ) given
        cross join lateral (
            select p.session_id from headcount.presence p where p.session_id = given.session_id for update
        ) p
    );
    -- A `left` carries no member, so it is enough to remember that there was one.
    v_touched := array(
        select (m.room_id, m.user_id, '{}', null, null, 'left', null)::headcount.touched
        from headcount.memberships m
        where m.user_id = any (v_gone) and not m.invisible
        group by m.room_id, m.user_id
    );
    delete from headcount.memberships m where m.user_id = any (v_gone);
    perform headcount.end_sessions(v_sessions);
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    return null;
end
$$;
