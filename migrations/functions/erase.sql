-- Erasing a user: what others see ends at once, the log forgets in steps.

-- locks: the user, their rooms, their sessions, their memberships.
create or replace function headcount.erase_user(p_user text) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
declare
    v_locked   headcount.room_version[];
    v_sessions uuid[];
    v_touched  headcount.touched[];
    v_known    boolean;
begin
    if not headcount.is_user_id(p_user) then
        perform headcount.refuse_argument('user');
    end if;
    perform headcount.lock_users(array[p_user]);
    v_locked := headcount.lock_rooms(headcount.rooms_of(array[p_user]));
    v_sessions := array(
        select p.session_id
        from (
            select distinct m.session_id from headcount.memberships m where m.user_id = p_user order by m.session_id
        ) given
        cross join lateral (
            select p.session_id from headcount.presence p where p.session_id = given.session_id for update
        ) p
    );
    v_touched := headcount.remember_users(array[p_user]);
    delete from headcount.memberships m where m.user_id = p_user;
    perform headcount.end_sessions(v_sessions);
    perform headcount.log_changes(v_touched);
    perform headcount.announce(v_locked);
    delete from headcount.users u where u.user_id = p_user;
    v_known := found;
    return headcount.queue_erasure(p_user, v_known) or v_known;
end
$$;
comment on function headcount.erase_user is
    'Ends the user''s presence, and removes their profile, at once; a task removes what the log says of them, and whose their sessions were. Gives whether there was a profile, or the log is still being searched.';

-- Queues the search of the log. Gives whether the user was queued already. A repeated request is a no-op; one after the user
-- came back is for what happened since, too. needs: the user locked, so that nothing is logged of them meanwhile.
create or replace function headcount.queue_erasure(p_user text, p_known boolean) returns boolean language plpgsql as $$
declare
    v_waits boolean := exists (select from headcount.erasures x where x.user_id = p_user);
begin
    insert into headcount.erasures as x (user_id, asked_at) values (p_user, clock_timestamp())
    on conflict (user_id) do update set asked_at = excluded.asked_at, again = x.begun where p_known;
    return v_waits;
end
$$;

-- Whether an event of the log, or a departure, is one of a user whom the log has still to forget. A call for each event would be
-- dear: callers first look whether the user is in headcount.erasures, which nearly always is empty.
create or replace function headcount.is_erased(p_user text, p_at timestamptz) returns boolean language sql stable as $$
    select exists (select from headcount.erasures x where x.user_id = p_user and p_at <= x.asked_at)
$$;

-- The table after p_part, of those that a pass reads; null after the last. Rows come to a table that was passed only after
-- the users were erased.
create or replace function headcount.part_after(p_part text) returns text language sql stable as $$
    select min(c.relname::text collate "C")
    from pg_class c
    where c.relnamespace = 'headcount'::regnamespace and c.relname::text collate "C" > p_part
      and (c.relname = 'departures' or c.oid in (select d.part from headcount.log_days() d))
$$;

-- One step: reads some blocks of the log and removes what they say of the users who wait. Gives whether there is more. A step
-- within p_rest of the last one, by whichever replica, is a no-op, so that others have the database in between.
-- locks: the row of erasure_pass, skipping when somebody has it; the rows it changes.
create or replace function headcount.erase_step(p_blocks integer default 1000, p_rest interval default '100 ms')
returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_pass headcount.erasure_pass;
    v_last bigint;
begin
    if not exists (select from headcount.erasures) then
        return false;
    end if;
    select s.* into v_pass from headcount.erasure_pass s for update skip locked;
    if not found or clock_timestamp() between v_pass.stepped_at and v_pass.stepped_at + p_rest then
        return true;
    end if;
    if v_pass.part is null then
        update headcount.erasures x set begun = true;
        v_pass.part := headcount.part_after('');
    end if;
    v_last := headcount.erase_blocks(v_pass.part, v_pass.block, p_blocks);
    v_pass.block := v_pass.block + p_blocks;
    if v_pass.block >= v_last then
        v_pass.part := headcount.part_after(v_pass.part);
        v_pass.block := 0;
    end if;
    update headcount.erasure_pass s set part = v_pass.part, block = v_pass.block, stepped_at = clock_timestamp();
    if v_pass.part is null then
        delete from headcount.erasures x where x.begun and not x.again;
        update headcount.erasures x set begun = false, again = false;
    end if;
    return exists (select from headcount.erasures);
end
$$;
comment on function headcount.erase_step is 'Run by the service until nobody waits in headcount.erasures.';

-- Removes what some blocks of a table say of the users of the pass. Gives how many blocks the table has; 0 where it has been
-- dropped meanwhile. The statement is made anew, so that it is planned as a scan of just these blocks.
-- locks: the rows it changes.
create or replace function headcount.erase_blocks(p_part text, p_block bigint, p_blocks integer) returns bigint
language plpgsql as $$
declare
    v_users text[] := array(select x.user_id from headcount.erasures x where x.begun);
    v_where text := format(
        'where e.ctid >= %L and e.ctid < %L and e.user_id = any ($1)',
        format('(%s,0)', p_block), format('(%s,0)', p_block + p_blocks)
    );
begin
        -- Nobody erases that they were removed: an identity that comes back with this session is still told so.
    if p_part = 'departures' then
        execute 'delete from headcount.departures e ' || v_where || ' and not e.kicked and headcount.is_erased(e.user_id, e.left_at)' using v_users;
    else
        execute format('update headcount.%I e set member = null ', p_part) || v_where
            || ' and e.member is not null and headcount.is_erased(e.user_id, e.at)' using v_users;
    end if;
    return pg_relation_size(format('headcount.%I', p_part)) / current_setting('block_size')::bigint;
exception when undefined_table then
    return 0;
end
$$;
