-- The write rules: join, leave, update and kick. One function takes a batch of them; the single forms are
-- thin calls of it, so that an application can write `select headcount.join(...)` inside its own transaction.

create or replace function headcount.joined_profiles(p_commands headcount.command[])
returns headcount.profile[] language plpgsql immutable as $$
begin
    return headcount.merge_profiles(array(
        select (c.user_id, c.name, c.avatar_url, null)::headcount.profile
        from unnest(p_commands) c
        where c.op = 'join'
        order by c.ord
    ));
end
$$;
comment on function headcount.joined_profiles is 'What the joins of a batch say of their users.';

-- Carries out one wave, decided before. The touched members are logged and answered; the refused are answered. Without
-- the trigger of profiles: what is written to users here is no profile, and to find that out took a tenth of what a join
-- by itself does.
create or replace function headcount.apply_wave(p_wave headcount.command[], p_now timestamptz)
returns headcount.answer[] language plpgsql as $$
declare
    v_touched headcount.touched[] := headcount.remember(array(
        select (c.ord, c.room_id, c.user_id, case c.op when 'kick' then 'kicked' else 'left' end)::headcount.touch
        from unnest(p_wave) c
        where c.outcome in ('ok', 'stale') and c.company
    )) || array(
        -- Of who was not there is nothing to remember; and what they are once they have joined is known.
        select (
            c.ord, c.room_id, c.user_id, null, 'left', null,
            case when c.op = 'join' and c.outcome = 'ok' and c.invisible is not true then (
                select headcount.member((
                    c.room_id, c.user_id, u.name, u.avatar_url,
                    case when c.status is distinct from 'dnd' and c.idle then 'idle' else coalesce(c.status, 'online') end,
                    coalesce(c.state, '{}'), 1, p_now, p_now
                )::headcount.rosters)
                from headcount.users u
                where u.user_id = c.user_id
                offset 0
            ) end
        )::headcount.touched
        from unnest(p_wave) c
        where c.outcome in ('ok', 'stale') and not c.company
    );
    v_answers headcount.answer[];
    v_setting text;
begin
    perform headcount.carry_out(p_wave, p_now);
    v_setting := set_config('headcount.within_rules', 'on', true);
    v_answers := array(
        select (l.ord, l.room_id, 'ok', l.created, l.member)::headcount.answer
        from headcount.log_changes(v_touched) l
        union all
        select (c.ord, c.room_id, c.outcome, false, null)::headcount.answer
        from unnest(p_wave) c
        where c.outcome in ('absent', 'foreign', 'room_full')
    );
    v_setting := set_config('headcount.within_rules', '', true);
    return v_answers;
end
$$;

-- Applies a batch of commands in the order of their `ord`, in one transaction, and answers each.
--
-- Commands about the same user in the same room go in successive waves, so that each has its own event;
-- everything else goes in the first. Each wave is a handful of statements over all its commands, every one
-- of them a walk over the batch with index look-ups; the settings forbid the other plans that are left.
--
-- Without p_wait, commands that need a room or a user which somebody holds are answered `busy` and nothing is
-- done for them: one held room must not stop the others in the batch.
--
-- Of the joins that are `limited`, those are refused that would give their user more rooms or sessions than these.
create or replace function headcount.apply(
    p_commands jsonb, p_wait boolean default true,
    p_rooms_max integer default null, p_sessions_max integer default null
)
returns table (ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb)
language plpgsql
security definer
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_now      timestamptz;
    v_epoch    text := headcount.epoch();
    v_commands headcount.command[];
    v_profiles headcount.profile[];
    v_changed  text[];
    v_joined   text[];
    v_rooms    text[];
    v_held     text[];
    v_busy     text[];
    v_sessions uuid[];
    v_created  uuid[];
    v_owners   text[];
    v_admitted headcount.admitted[];
    v_locked   headcount.room_version[];
    v_waves    integer;
    v_wave     headcount.command[];
    v_decided  headcount.command[] := '{}';
    v_answers  headcount.answer[] := '{}';
begin
    v_commands := array(
        select (
            c.ord, c.op, c.room_id, c.user_id, c.session_id, c.seq, c.name, c.avatar_url, c.status, c.state,
            c.visible, c.invisible,
            coalesce(c.lease, '45 s'), coalesce(c.lease_hidden, '150 s'), coalesce(c.grace, '0'), c.limited,
            row_number() over (partition by c.room_id, c.user_id order by c.ord), null, null, null, null, null, null
        )::headcount.command
        from jsonb_populate_recordset(null::headcount.command, p_commands) c
    );
    v_profiles := headcount.joined_profiles(v_commands);
    v_held := headcount.lock_users(array(select distinct c.user_id from unnest(v_commands) c), v_profiles, p_wait);
    if coalesce(p_rooms_max, p_sessions_max) is not null then
        v_answers := headcount.over_limit(v_commands, p_rooms_max, p_sessions_max);
        if v_answers <> '{}' then
            v_commands := array(
                select c from unnest(v_commands) c
                where c.ord <> all (array(select a.ord from unnest(v_answers) a))
            );
            v_profiles := headcount.joined_profiles(v_commands);
        end if;
    end if;
    v_changed := headcount.changed_by(v_profiles);
    if v_changed <> '{}' then
        -- A join that is refused below changes no profile either. Looked at here only, because profiles seldom change.
        v_answers := v_answers || array(
            select (c.ord, c.room_id, 'foreign', false, null)::headcount.answer
            from unnest(v_commands) c
            where c.op = 'join' and (
                exists (
                    select from headcount.presence p
                    where p.session_id = c.session_id and p.user_id <> c.user_id
                    offset 0
                )
                or exists (
                    select from headcount.departures d
                    where d.session_id = c.session_id and d.user_id <> c.user_id
                    offset 0
                )
            )
        );
        v_commands := array(
            select c from unnest(v_commands) c
            where c.ord <> all (array(select a.ord from unnest(v_answers) a))
        );
        v_profiles := headcount.joined_profiles(v_commands);
        v_changed := headcount.changed_by(v_profiles);
    end if;
    v_joined := array(select distinct c.room_id from unnest(v_commands) c where c.op = 'join');
    v_rooms := array(select distinct c.room_id from unnest(v_commands) c);
    if v_changed <> '{}' then
        v_rooms := v_rooms || headcount.rooms_of(v_changed);
    end if;
    v_locked := headcount.lock_rooms(v_rooms, v_joined, p_wait);
    if v_held <> '{}' or not p_wait and cardinality(v_locked) < cardinality(v_rooms) then
        v_busy := array(
            (select unnest(v_joined) union select r.room_id from headcount.rooms r where r.room_id = any (v_rooms))
            except
            select l.room_id from unnest(v_locked) l
        );
        -- A user whose profile changes needs all of their rooms.
        v_held := v_held || array(
            select m.user_id from headcount.memberships m
            where m.user_id = any (v_changed) and m.room_id = any (v_busy)
        );
        if v_busy <> '{}' or v_held <> '{}' then
            v_answers := v_answers || array(
                select (c.ord, c.room_id, 'busy', false, null)::headcount.answer
                from unnest(v_commands) c
                where c.room_id = any (v_busy) or c.user_id = any (v_held)
            );
            v_commands := array(
                select c from unnest(v_commands) c
                where not (c.room_id = any (v_busy) or c.user_id = any (v_held))
            );
            v_profiles := headcount.joined_profiles(v_commands);
            v_changed := headcount.changed_by(v_profiles);
        end if;
    end if;
    -- The time counts from here: waiting for a room must not eat into the leases.
    v_now := clock_timestamp();
    perform headcount.change_profiles(v_profiles, v_changed);

    -- New sessions belong to whoever used them first, also when that was in a room they have left. A join that
    -- its own leave overtook makes no session.
    with created as (
        insert into headcount.presence (session_id, user_id, lease, last_active, last_seen)
        select distinct on (c.session_id) c.session_id, c.user_id, c.lease, v_now, v_now
        from unnest(v_commands) c
        where c.op = 'join'
          and not exists (
              select from headcount.departures d
              where d.session_id = c.session_id
                and (d.user_id <> c.user_id or d.room_id = c.room_id and c.seq < d.seq)
              offset 0
          )
        order by c.session_id, c.ord
        on conflict (session_id) do nothing
        returning session_id, user_id
    )
    select array_agg(c.session_id), array_agg(c.user_id) into v_created, v_owners from created c;

    if cardinality(v_created) > 0 and headcount.may_admit() then
        v_admitted := headcount.admit_newcomers(v_commands, v_created, v_owners, v_now);
        if cardinality(v_admitted) = cardinality(v_commands) and v_answers = '{}' then
            perform headcount.announce(v_locked, array(
                select (a.room_id, max(a.version))::headcount.room_version from unnest(v_admitted) a group by a.room_id
            ));
            return query select a.ord, 'ok', a.epoch, a.version, true, a.member from unnest(v_admitted) a;
            return; -- nearly always, when many join
        end if;
        v_answers := v_answers || array(
            select (a.ord, a.room_id, 'ok', true, a.member)::headcount.answer from unnest(v_admitted) a
        );
        v_commands := array(
            select c from unnest(v_commands) c
            where c.ord <> all (array(select a.ord from unnest(v_admitted) a))
        );
    end if;

    v_sessions := array(
        select c.session_id from unnest(v_commands) c where c.session_id is not null
        union
        select m.session_id
        from unnest(v_commands) c
        cross join lateral (
            select m.session_id from headcount.memberships m
            where m.room_id = c.room_id and m.user_id = c.user_id
            offset 0
        ) m
        where c.op = 'kick'
    );
    perform from (
        (select unnest(v_sessions) as session_id except select unnest(v_created)) order by session_id
    ) given
    cross join lateral (
        select from headcount.presence p where p.session_id = given.session_id for update
    ) p;

    v_waves := (select max(c.wave) from unnest(v_commands) c);
    for v_number in 1 .. coalesce(v_waves, 0) loop
        v_wave := case when v_waves = 1 then v_commands else array(
            select c from unnest(v_commands) c where c.wave = v_number
        ) end;
        continue when v_wave = '{}';
        v_wave := headcount.decide(v_wave, v_now);
        v_decided := v_decided || v_wave;
        v_answers := v_answers || headcount.apply_wave(v_wave, v_now);
    end loop;
    if exists (select from unnest(v_decided) c where c.renews and c.outcome = 'ok' and c.op in ('join', 'update')) then
        perform headcount.renew_sessions(v_decided, v_now);
    end if;
    if exists (select from unnest(v_decided) c where c.op <> 'join' or c.outcome <> 'ok') then
        perform headcount.end_sessions(v_sessions);
    end if;
    perform headcount.announce(v_locked);

    return query
    select
        a.ord, a.outcome,
        coalesce(left(v_epoch, 8) || substr(r.epoch, 9), v_epoch), coalesce(r.version, 0),
        a.created, a.member
    from unnest(v_answers) a
    left join headcount.rooms r on r.room_id = any (array[a.room_id]);
end
$$;

-- What a service calls: apply, and what the session's lease is then, where settings say something about leases; else
-- null. Read after it was written, so that no client is told to beat less often than its session needs.
create or replace function headcount.apply_with_leases(
    p_commands jsonb, p_wait boolean default true,
    p_rooms_max integer default null, p_sessions_max integer default null
)
returns table (
    ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb,
    lease interval, visible boolean
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_applied  headcount.applied[];
    v_sessions jsonb;
begin
    if not exists (select from headcount.room_settings s where s.lease is not null or s.lease_hidden is not null) then
        return query
        select a.ord, a.outcome, a.epoch, a.version, a.created, a.member, null::interval, null::boolean
        from headcount.apply(p_commands, p_wait, p_rooms_max, p_sessions_max) a;
        return;
    end if;
    v_applied := array(
        select (a.ord, a.outcome, a.epoch, a.version, a.created, a.member)::headcount.applied
        from headcount.apply(p_commands, p_wait, p_rooms_max, p_sessions_max) a
    );
    v_sessions := (
        select jsonb_object_agg(c ->> 'ord', c -> 'session_id') from jsonb_array_elements(p_commands) c
    );
    return query
    select a.ord, a.outcome, a.epoch, a.version, a.created, a.member, p.lease, p.visible
    from unnest(v_applied) a
    left join lateral (
        select p.lease, p.visible from headcount.presence p
        where p.session_id = (v_sessions ->> a.ord::text)::uuid
        offset 0
    ) p on true;
end
$$;

create or replace function headcount.join(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_visible boolean default null,
    p_invisible boolean default null,
    p_name text default null, p_avatar_url text default null, p_seq bigint default null,
    p_lease interval default '45 s', p_lease_hidden interval default '150 s'
)
returns table (outcome text, epoch text, version bigint, created boolean, member jsonb) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select outcome, epoch, version, created, member from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'join', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'visible', p_visible, 'invisible', p_invisible,
        'name', p_name, 'avatar_url', p_avatar_url,
        'seq', p_seq, 'lease', p_lease, 'lease_hidden', p_lease_hidden
    )))
$$;

create or replace function headcount.leave(
    p_room text, p_user text, p_session uuid, p_grace interval default '0', p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select outcome, epoch, version from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'leave', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'grace', p_grace, 'seq', p_seq
    )))
$$;

create or replace function headcount.update(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_invisible boolean default null,
    p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint, member jsonb) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select outcome, epoch, version, member from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'update', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'invisible', p_invisible, 'seq', p_seq
    )))
$$;

create or replace function headcount.kick(p_room text, p_user text)
returns table (outcome text, epoch text, version bigint) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select outcome, epoch, version from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'kick', 'room_id', p_room, 'user_id', p_user
    )))
$$;

-- Which of these sessions were kicked out of which rooms, and did not join those again. A user's own, if one is named.
create or replace function headcount.kicked(p_sessions uuid[], p_user text default null)
returns table (session_id uuid, room_id text) language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    select d.session_id, d.room_id
    from headcount.departures d
    where d.session_id = any (p_sessions) and d.kicked and (p_user is null or d.user_id = p_user)
      and not exists (
          select from headcount.memberships m
          where m.room_id = d.room_id and m.user_id = d.user_id and m.session_id = d.session_id
      )
    order by d.room_id
$$;
