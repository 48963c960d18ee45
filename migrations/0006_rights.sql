-- Who may do what with this schema, besides its owner. Nobody may anything unless they are granted it; then they may
-- read tables and views, and change things only through the functions that hold the rules.
--
-- Those functions run as their owner (security definer), and look names up nowhere but in pg_catalog, so that nobody
-- can slip them an object of their own. Whoever is granted one may say anything by it, about any user: roles of
-- services and of applications, not of users. A later migration that creates a function revokes it from public, as
-- here; a test finds the one that does not.

do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid::regprocedure
        from pg_proc p
        where p.pronamespace = 'headcount'::regnamespace
          and p.proname = any ('{
              lineage, epoch, apply, join, leave, update, kick, kicked, put_users, erase_user,
              heartbeat, refresh_idle, sweep, trim
          }'::text[])
    loop
        execute format('alter function %s security definer set search_path = pg_catalog, pg_temp', v_function);
    end loop;
end
$$;

revoke execute on all functions in schema headcount from public;

create function headcount.grant_to_service(p_role text) returns void language plpgsql as $$
begin
    execute format('grant usage on schema headcount to %I', p_role);
    execute format(
        'grant select on headcount.users, headcount.presence, headcount.memberships, headcount.rooms, headcount.events, '
        'headcount.sweep_state, headcount.migrations, headcount.rosters, headcount.sightings, headcount.unseen to %I',
        p_role
    );
    execute format(
        'grant execute on function headcount.lineage, headcount.epoch, headcount.member, headcount.unseen_member, '
        'headcount.apply, headcount.kicked, headcount.put_users, headcount.erase_user, headcount.heartbeat, headcount.refresh_idle, '
        'headcount.sweep, headcount.trim to %I',
        p_role
    );
end
$$;
comment on function headcount.grant_to_service is
    'What `headcount serve` needs, and nothing else. Repeat it after an upgrade.';

create function headcount.grant_to_application(p_role text) returns void language plpgsql as $$
begin
    execute format('grant usage on schema headcount to %I', p_role);
    execute format('grant select on headcount.rosters, headcount.online, headcount.events to %I', p_role);
    execute format(
        'grant execute on function headcount.join, headcount.leave, headcount.update, headcount.kick, '
        'headcount.put_users, headcount.erase_user to %I',
        p_role
    );
end
$$;
comment on function headcount.grant_to_application is
    'What an application needs that calls the functions in its own transactions and joins the views.';

revoke execute on function headcount.grant_to_service, headcount.grant_to_application from public;
