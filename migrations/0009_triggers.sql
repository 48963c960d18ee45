-- Profiles by plain SQL. Who writes `update headcount.users set name = ...` need not know of put_users: triggers do what
-- it does. An `updated` in every room of the user, one version each, and one notification for the statement.
--
-- A statement locks the users it changes as it meets them; the rooms are locked after that, in key order, as everywhere
-- (0002). Two statements that change the same users in different orders can deadlock, as on any table; Postgres ends
-- one of them, which may be repeated. `where user_id in (select user_id ... order by user_id for update)` avoids it.

-- A plain insert is no event: who has no profile is in no room.
create function headcount.check_profile() returns trigger language plpgsql as $$
begin
    if new.user_id <> old.user_id then
        raise 'the id of a user never changes'
            using errcode = 'restrict_violation', hint = 'Make another user, and erase this one.';
    end if;
    new.updated_at := now();
    return new;
end
$$;

-- What the rules themselves write at every leave (last_seen_at) does not get as far as the function.
create trigger check_profile before update on headcount.users for each row
when (
    old.user_id <> new.user_id
    or (old.name, old.avatar_url, old.show_last_seen) is distinct from (new.name, new.avatar_url, new.show_last_seen)
)
execute function headcount.check_profile();

-- locks: the rooms of the users, whom the statement has locked: nobody can join as them meanwhile.
-- What others saw before is what they see now, but for what the statement replaced.
create function headcount.log_profiles() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    -- Not by a join: with the settings above it would compare everybody with everybody.
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
            t.ord, t.room_id, t.user_id, t.before || (v_before -> t.user_id), t.reason, t.last_seen, null
        )::headcount.touched
        from unnest(headcount.remember(array(
            select distinct (0, m.room_id, m.user_id, null)::headcount.touch
            from headcount.memberships m
            where m.user_id = any (v_changed)
        ))) t
    );
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    return null;
end
$$;

create trigger log_profiles after update on headcount.users
referencing old table as old_rows new table as new_rows
for each statement
when (current_setting('headcount.within_rules', true) is distinct from 'on')
execute function headcount.log_profiles();

-- A profile that is deleted takes its user's presence with it, with a `left` in every room. What the log says of them
-- stays, until it is trimmed: headcount.erase_user removes that too.
-- locks: the rooms of the users, whom the statement has locked, then their sessions.
create function headcount.end_presence() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
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
    -- A `left` says nothing of what the member was: that there was one is enough.
    v_touched := array(
        select (0, m.room_id, m.user_id, '{}', 'left', null, null)::headcount.touched
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

create trigger end_presence after delete on headcount.users
referencing old table as old_rows
for each statement
execute function headcount.end_presence();

-- As before (0003), but that it says that it tells the rooms itself: it locked them in one go with what else its
-- batch needs, and one notification tells of all of that. The setting ends with the transaction at the latest.
-- needs: the users in p_changed and all their rooms locked.
create or replace function headcount.change_profiles(p_profiles headcount.profile[], p_changed text[])
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
    perform set_config('headcount.within_rules', 'on', true);
    update headcount.users u
    set name = coalesce(p.name, u.name),
        avatar_url = case when p.avatar_url is null then u.avatar_url else nullif(p.avatar_url, '') end,
        updated_at = now()
    from unnest(p_profiles) p
    where u.user_id = any (array[p.user_id]) and p.user_id = any (p_changed);
    perform set_config('headcount.within_rules', '', true);
    perform headcount.log_changes(v_touched);
end
$$;

revoke execute on function headcount.check_profile, headcount.log_profiles, headcount.end_presence from public;
