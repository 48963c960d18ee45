-- What 0006 granted, and what has come since. A later migration replaces these two functions whole, and repeats the last
-- block: who was granted something before goes on with what there is now.

create or replace function headcount.grant_to_service(p_role text) returns void language plpgsql as $$
begin
    execute format('grant usage on schema headcount to %I', p_role);
    execute format(
        'grant select on headcount.users, headcount.presence, headcount.memberships, headcount.rooms, headcount.events, '
        'headcount.sweep_state, headcount.migrations, headcount.rosters, headcount.sightings, headcount.unseen, '
        'headcount.webhooks, headcount.webhook_deliveries, headcount.webhook_rooms, headcount.webhook_batches, '
        'headcount.room_settings to %I',
        p_role
    );
    execute format(
        'grant execute on function headcount.lineage, headcount.epoch, headcount.member, headcount.unseen_member, '
        'headcount.apply, headcount.apply_with_leases, headcount.kicked, headcount.put_users, headcount.erase_user, '
        'headcount.heartbeat, headcount.refresh_idle, headcount.sweep, headcount.trim, '
        'headcount.webhook_tick, headcount.webhook_hold, headcount.webhook_make, headcount.webhook_accept, '
        'headcount.webhook_fail, headcount.webhook_release, headcount.webhook_gone, headcount.webhook_put, '
        'headcount.webhook_delete, headcount.webhook_target, headcount.webhook_retention, headcount.webhook_members, '
        'headcount.put_room_settings, headcount.remove_room_settings, headcount.turn_days, headcount.tails, '
        'headcount.history_bounds, headcount.members_at, headcount.attendance, headcount.occupancy, '
        'headcount.peak_occupancy to %I',
        p_role
    );
end
$$;

-- An application may change profiles by plain SQL, because nobody is passed by (0009).
create or replace function headcount.grant_to_application(p_role text) returns void language plpgsql as $$
begin
    execute format('grant usage on schema headcount to %I', p_role);
    execute format(
        'grant select on headcount.rosters, headcount.online, headcount.events, headcount.users, headcount.stays, '
        'headcount.whereabouts to %I',
        p_role
    );
    execute format(
        'grant insert (user_id, name, avatar_url, show_last_seen), update (name, avatar_url, show_last_seen) '
        'on headcount.users to %I',
        p_role
    );
    execute format(
        'grant execute on function headcount.join, headcount.leave, headcount.update, headcount.kick, '
        'headcount.put_users, headcount.erase_user, headcount.members_at, headcount.attendance, headcount.occupancy, '
        'headcount.peak_occupancy to %I',
        p_role
    );
end
$$;

do $$
declare
    v_role record;
begin
    for v_role in
        select distinct r.rolname, p.proname
        from pg_proc p
        cross join lateral aclexplode(p.proacl) a
        join pg_roles r on r.oid = a.grantee
        where p.pronamespace = 'headcount'::regnamespace and p.proname in ('apply', 'join') and a.grantee <> p.proowner
    loop
        if v_role.proname = 'apply' then
            perform headcount.grant_to_service(v_role.rolname);
        else
            perform headcount.grant_to_application(v_role.rolname);
        end if;
    end loop;
end
$$;
