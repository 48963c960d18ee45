-- The write rules: join, leave, update and kick. `apply` takes a batch of them; the single forms are thin calls of it,
-- so that an application can write `select headcount.join(...)` inside its own transaction. README.md beside this file
-- says the steps of a write, the lock order and the planner rules.

-- Applies a batch of commands in the order of their `ord`, in one transaction, and answers each. A command with a value that
-- is not good (values.sql) is an error.
--
-- Without p_wait, commands that need a room or a user which somebody holds are answered `busy`. Of the joins that are
-- `limited`, those are refused that would give their user more rooms or sessions than p_rooms_max and p_sessions_max.
-- The lease and `visible` are the session's afterwards, where the settings of rooms say something about leases.
-- locks: users by key, rooms by key, sessions by key.
create or replace function headcount.apply(
    p_commands jsonb, p_wait boolean default true,
    p_rooms_max integer default null, p_sessions_max integer default null
)
returns table (
    ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb,
    lease interval, visible boolean
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set headcount.planner = 'by_index'
as $$
declare
    v_commands headcount.command[] := headcount.read_commands(p_commands);             -- 1 what is asked, in waves
    v_verdicts headcount.verdict[];
    v_profiles headcount.profile[];
    v_rooms    text[];
    v_locked   headcount.room_version[];
    v_sessions uuid[];
    v_now      timestamptz;
    v_first    integer := 1;
    v_last     integer;
    v_general  boolean;
begin
    perform headcount.check_commands(v_commands);
    v_verdicts := headcount.lock_users_of(v_commands, p_wait);                         -- 2 users, then rooms, for
    v_verdicts := headcount.refuse_over_limit(v_commands, v_verdicts, p_rooms_max, p_sessions_max); -- what is left
    v_verdicts := headcount.refuse_barred(v_commands, v_verdicts, p_commands);
    v_commands := headcount.without_older_names(v_commands, p_commands);
    v_profiles := headcount.changed_profiles(v_commands, v_verdicts);
    if v_profiles <> '{}' then
        v_verdicts := headcount.refuse_foreign(v_commands, v_verdicts);
        v_profiles := headcount.changed_profiles(v_commands, v_verdicts);
    end if;
    v_rooms := headcount.rooms_needed(v_commands, v_verdicts, headcount.users_of(v_profiles));
    v_locked := headcount.lock_rooms_of(v_commands, v_verdicts, v_rooms, p_wait);
    if cardinality(v_locked) < cardinality(v_rooms) then
        v_verdicts := headcount.refuse_held(v_commands, v_verdicts, v_locked, headcount.users_of(v_profiles));
    end if;

    v_now := clock_timestamp();                                                        -- 3 leases count from here:
    perform headcount.change_profiles(v_commands, v_verdicts, v_profiles);             --   waiting must not eat them
    v_verdicts := headcount.open_sessions(v_commands, v_verdicts, v_now);
    v_sessions := headcount.lock_sessions(v_commands, v_verdicts);

    while v_first <= cardinality(v_commands) loop                                      -- 4 one event per user, room
        v_last := headcount.end_of_wave(v_commands, v_first);                          --   and wave
        v_verdicts[v_first:v_last] := headcount.apply_wave(
            v_commands[v_first:v_last], v_verdicts[v_first:v_last], v_now
        );
        v_first := v_last + 1;
    end loop;

    v_general := exists (select from unnest(v_verdicts) v where v.outcome <> 'admitted');
    if v_general then                                                                  -- 5 what the sessions come to
        perform headcount.renew_sessions(v_commands, v_verdicts, v_now);
        perform headcount.end_unused_sessions(v_commands, v_verdicts, v_sessions);
    end if;
    perform headcount.announce(v_locked);                                              -- 6 outbox, one notification
    return query select * from headcount.answers(v_commands, v_verdicts, v_general);
end
$$;

-- Reads the commands, sorted by wave. Commands about the same user in the same room go in successive waves, so that each
-- has its own event; everything else goes in the first. So a wave is a slice of the list.
create or replace function headcount.read_commands(p_commands jsonb) returns headcount.command[]
language plpgsql stable as $$
begin
    return array(
        select (
            c.ord, c.op, c.room_id, c.user_id, c.session_id, c.seq, c.name, c.avatar_url, c.status, c.state,
            c.visible, c.invisible,
            coalesce(c.lease, headcount.default_lease()), coalesce(c.lease_hidden, headcount.default_lease_hidden()),
            coalesce(c.grace, '0'), c.limited, c.wave
        )::headcount.command
        from (
            select
                j.ord, j.op, j.room_id, j.user_id, j.session_id, j.seq, j.name, j.avatar_url, j.status, j.state,
                j.visible, j.invisible, j.lease, j.lease_hidden, j.grace, j.limited,
                row_number() over (partition by j.room_id collate "C", j.user_id collate "C" order by j.ord) as wave
            from jsonb_populate_recordset(null::headcount.command, p_commands) j
        ) c
        order by c.wave, c.ord
    );
end
$$;

-- The position of the last command of the wave that begins at p_first.
create or replace function headcount.end_of_wave(p_commands headcount.command[], p_first integer) returns integer
language plpgsql immutable as $$
declare
    v_wave integer := (p_commands[p_first]).wave;
    v_last integer := cardinality(p_commands);
begin
    if (p_commands[v_last]).wave > v_wave then -- seldom: nearly all batches have one wave
        v_last := (select max(c.ordinality) from unnest(p_commands) with ordinality c where c.wave = v_wave);
    end if;
    return v_last;
end
$$;

-- Decides, carries out and logs one wave. Gives its verdicts.
create or replace function headcount.apply_wave(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns headcount.verdict[] language plpgsql as $$
declare
    v_touched headcount.touched[];
begin
    if exists (select from unnest(p_verdicts) v where v.outcome is null and v.opened) then
        p_verdicts := headcount.admit_newcomers(p_wave, p_verdicts, p_now);
    end if;
    if not exists (select from unnest(p_verdicts) v where v.outcome is null) then
        return p_verdicts; -- nearly always, when many join
    end if;
    p_verdicts := headcount.decide(p_wave, p_verdicts, p_now);
    v_touched := headcount.touched_by(p_wave, p_verdicts, p_now);
    perform headcount.carry_out(p_wave, p_verdicts, p_now);
    v_touched := headcount.log_changes(v_touched);
    return headcount.with_members(p_verdicts, v_touched);
end
$$;

-- The members that a wave touches: the n-th belongs to the n-th command, with nulls where that is refused. A user who is not
-- in the room is not looked up: nobody sees them, and the member after a join is known from the command.
create or replace function headcount.touched_by(
    p_wave headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns headcount.touched[] language plpgsql stable as $$
begin
    return array(
        select (
            case when c.outcome in ('ok', 'stale') then c.room_id end, c.user_id, m.member,
            case when c.op = 'join' and c.outcome = 'ok' and not c.company and c.invisible is not true then (
                select headcount.as_member(
                    u.user_id, u.name, u.avatar_url,
                    case when c.status is distinct from 'dnd' and c.idle then 'idle' else coalesce(c.status, 'online') end,
                    coalesce(c.state, '{}'), 1, p_now
                )
                from headcount.users u
                where u.user_id = c.user_id
                offset 0
            ) end,
            null, case c.op when 'kick' then 'kicked' else 'left' end, m.last_seen
        )::headcount.touched
        from unnest(p_wave, p_verdicts) with ordinality c
        left join lateral (
            select headcount.member(r) as member, r.last_seen
            from headcount.rosters r
            where c.company and c.outcome in ('ok', 'stale') and r.room_id = c.room_id and r.user_id = c.user_id
            offset 0
        ) m on true
        order by c.ordinality
    );
end
$$;

-- Puts into the verdicts the members as they are afterwards, as the users see themselves.
create or replace function headcount.with_members(p_verdicts headcount.verdict[], p_touched headcount.touched[])
returns headcount.verdict[] language plpgsql stable as $$
begin
    return array(
        select (
            c.outcome, c.opened, c.known, c.company, c.seen_from, c.idle, c.renews,
            coalesce(c.created, c.kind = 'joined'),
            coalesce(c.member, c.after, (
                select headcount.unseen_member(u)
                from headcount.unseen u
                where c.outcome in ('ok', 'stale') and u.room_id = c.room_id and u.user_id = c.user_id
                offset 0
            )),
            c.epoch, c.version
        )::headcount.verdict
        from unnest(p_verdicts, p_touched) with ordinality c
        order by c.ordinality
    );
end
$$;

-- Inlined. What callers are told. The position is the room's, at or past the command's event; a room that nobody has joined
-- yet is at version 0 of the epoch it would be created with. Rooms are looked up (p_look_up) unless all commands took the
-- fast path, which knows. Sub-selects without a row of the batch in them are evaluated once, and only when needed.
create or replace function headcount.answers(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_look_up boolean
)
returns table (
    ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb,
    lease interval, visible boolean
)
language sql stable as $$
    select
        c.ord, case when c.outcome in ('admitted', 'stale') then 'ok' else c.outcome end,
        coalesce(headcount.epoch_in((select headcount.lineage()), r.epoch), c.epoch, (select headcount.epoch())),
        coalesce(r.version, c.version, 0), coalesce(c.created, false), c.member, p.lease, p.visible
    from unnest(p_commands, p_verdicts) c
    left join lateral (
        select r.epoch, r.version from headcount.rooms r where p_look_up and r.room_id = c.room_id offset 0
    ) r on true
    left join lateral (
        select p.lease, p.visible from headcount.presence p
        where (select headcount.leases_are_set()) and p.session_id = c.session_id
        offset 0
    ) p on true
$$;

create or replace function headcount.join(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_visible boolean default null,
    p_invisible boolean default null,
    p_name text default null, p_avatar_url text default null, p_seq bigint default null,
    p_lease interval default null, p_lease_hidden interval default null
)
returns table (outcome text, epoch text, version bigint, created boolean, member jsonb) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select a.outcome, a.epoch, a.version, a.created, a.member
    from headcount.rules, headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'join', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'visible', p_visible, 'invisible', p_invisible,
        'name', p_name, 'avatar_url', p_avatar_url,
        'seq', p_seq, 'lease', headcount.good_span('lease', p_lease, '2 s', '1 h'),
        'lease_hidden', headcount.good_span('lease_hidden', p_lease_hidden, '2 s', '1 h')
    ))) a
$$;

create or replace function headcount.leave(
    p_room text, p_user text, p_session uuid, p_grace interval default '0', p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select a.outcome, a.epoch, a.version
    from headcount.rules, headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'leave', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'grace', headcount.good_span('grace', p_grace, '0', '300 s'), 'seq', p_seq
    ))) a
$$;

create or replace function headcount.update(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_invisible boolean default null,
    p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint, member jsonb) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select a.outcome, a.epoch, a.version, a.member
    from headcount.rules, headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'update', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'invisible', p_invisible, 'seq', p_seq
    ))) a
$$;

create or replace function headcount.kick(p_room text, p_user text)
returns table (outcome text, epoch text, version bigint) language sql
security definer set search_path = pg_catalog, pg_temp
as $$
    select a.outcome, a.epoch, a.version
    from headcount.rules, headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'kick', 'room_id', p_room, 'user_id', p_user
    ))) a
$$;
