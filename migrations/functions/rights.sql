-- The rights of roles on this schema, besides its owner. Default deny: a role may do nothing unless it is granted; then it
-- may read tables and views, and write only through the functions.
--
-- Those functions run as their owner (security definer) with a fixed search_path, so that a caller cannot plant an object
-- of its own. A role that may call one may act for any user: grant it to services and applications, never to users.

create or replace function headcount.grant_to_service(p_role text) returns void language plpgsql as $$
begin
    execute format('grant usage on schema headcount to %I', p_role);
    execute format(
        'grant select on headcount.users, headcount.presence, headcount.memberships, headcount.rooms, headcount.events, '
        'headcount.sweep_state, headcount.migrations, headcount.rules, headcount.rosters, headcount.sightings, headcount.unseen, '
        'headcount.webhooks, headcount.webhook_deliveries, headcount.webhook_rooms, headcount.webhook_batches, '
        'headcount.room_settings, headcount.erasures, headcount.revocations, headcount.access_state to %I',
        p_role
    );
    execute format(
        'grant execute on function headcount.notification_key, headcount.lineage, headcount.epoch, headcount.member, headcount.unseen_member, '
        'headcount.apply, headcount.revoke, headcount.epoch_in, headcount.generation_of, headcount.as_member, headcount.kicked, headcount.put_users, headcount.erase_user, '
        'headcount.heartbeat, headcount.refresh_idle, headcount.sweep, headcount.trim, headcount.erase_step, '
        'headcount.webhook_tick, headcount.webhook_hold, headcount.webhook_make, headcount.webhook_accept, '
        'headcount.webhook_fail, headcount.webhook_release, headcount.webhook_gone, headcount.webhook_put, '
        'headcount.webhook_delete, headcount.webhook_target, headcount.webhook_backlog, headcount.webhook_retention, headcount.webhook_members, '
        'headcount.put_room_settings, headcount.remove_room_settings, headcount.turn_days, headcount.tails, '
        'headcount.history_bounds, headcount.members_at, headcount.attendance, headcount.occupancy, '
        'headcount.peak_occupancy to %I',
        p_role
    );
end
$$;
comment on function headcount.grant_to_service is
    'What `headcount serve` needs, and nothing else. Repeat it after an upgrade.';

-- An application may change profiles by plain SQL, because triggers log the change.
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
        'grant execute on function headcount.join, headcount.leave, headcount.update, headcount.kick, headcount.revoke, '
        'headcount.put_users, headcount.erase_user, headcount.members_at, headcount.attendance, headcount.occupancy, '
        'headcount.peak_occupancy to %I',
        p_role
    );
end
$$;
comment on function headcount.grant_to_application is
    'What an application needs that calls the functions in its own transactions and joins the views.';

-- By default Postgres lets every role call a new function.
revoke execute on all functions in schema headcount from public;
