-- The write rules: join, leave, update and kick. One function takes a batch of them; the single forms are
-- thin calls of it, so that an application can write `select headcount.join(...)` inside its own transaction.

create type headcount.command as (
    ord          integer,
    op           text,     -- join | leave | update | kick
    room_id      text,
    user_id      text,
    session_id   uuid,     -- null for kick
    seq          bigint,
    name         text,     -- join: the profile, null keeps what is stored
    avatar_url   text,
    status       text,     -- join, update: null keeps
    state        jsonb,
    visible      boolean,
    invisible    boolean,  -- join, update: null keeps
    lease        interval, -- of a visible session, and of a hidden one
    lease_hidden interval,
    grace        interval, -- leave: wait this long for a join of the same user
    limited      boolean,  -- join: refused where it would give its user more than they may have
    wave         integer,
    outcome      text,     -- and what was found when it was decided:
    known        boolean,  -- the session is in the room
    company      boolean,  -- the user is, with some session
    seen_from    timestamptz, -- since when others see the user there
    idle         boolean,  -- the session is
    renews       boolean   -- the session is renewed by it
);

create type headcount.answer as (ord integer, room_id text, outcome text, created boolean, member jsonb);

-- What each command of a wave may do, decided under the locks.
--   ok       it will be carried out
--   stale    an older seq than the newest seen: nothing is done, and it is answered as ok with what is now
--   absent   the session is not in that room (for a leave that is success)
--   foreign  the session is somebody else's, or for an update nobody's
create function headcount.decide(p_wave headcount.command[], p_now timestamptz) returns headcount.command[]
language plpgsql stable as $$
begin
    return (
        select array_agg((
            c.ord, c.op, c.room_id, c.user_id, c.session_id, c.seq, c.name, c.avatar_url, c.status, c.state,
            c.visible, c.invisible, c.lease, c.lease_hidden, c.grace, c.limited, c.wave,
            case
                when c.op = 'kick' then 'ok'
                -- A session that is gone is still its first user's, whichever room they left.
                when c.user_id <> coalesce(
                    p.user_id,
                    (select o.user_id from headcount.departures o where o.session_id = c.session_id limit 1)
                ) then 'foreign'
                when c.seq < greatest(m.seq, d.seq) then 'stale'
                when p.session_id is null and c.op <> 'leave' then 'foreign'
                when m.known is not true and c.op <> 'join' then 'absent'
                else 'ok'
            end,
            coalesce(m.known, false), m.company, m.seen_from, p.idle,
            -- Sessions made by this batch are renewed already, and visible.
            p.last_seen <> p_now or p.visible <> c.visible
        )::headcount.command order by c.ord)
        from unnest(p_wave) c
        left join headcount.presence p on p.session_id = any (array[c.session_id])
        cross join lateral (
            select
                count(*) > 0 as company,
                bool_or(m.session_id = c.session_id) as known,
                max(m.seq) filter (where m.session_id = c.session_id) as seq,
                min(m.joined_at) filter (where not m.invisible) as seen_from
            from headcount.memberships m
            where m.room_id = c.room_id and m.user_id = c.user_id
            offset 0
        ) m
        left join headcount.departures d
            on c.seq is not null and d.session_id = any (array[c.session_id]) and d.room_id = any (array[c.room_id])
    );
end
$$;

-- Renews the sessions of the `ok` joins and updates. Once for the whole batch, because which command is the last
-- to say whether a session is visible does not depend on waves. needs: the sessions locked.
create function headcount.renew_sessions(p_commands headcount.command[], p_now timestamptz)
returns void language plpgsql as $$
begin
    update headcount.presence p
    set last_seen = p_now,
        last_active = p_now,
        visible = coalesce(c.visible, p.visible),
        lease = case when coalesce(c.visible, p.visible) then c.lease else c.lease_hidden end
    from (
        select
            d.session_id,
            (array_agg(d.visible order by d.ord desc) filter (where d.visible is not null))[1] as visible,
            max(d.lease) as lease,
            max(d.lease_hidden) as lease_hidden
        from unnest(p_commands) d
        where d.op in ('join', 'update') and d.outcome = 'ok'
        group by d.session_id
        having bool_or(d.renews)
    ) c
    where p.session_id = any (array[c.session_id]);
end
$$;

-- Carries out the `ok` commands of a wave, in which no two are about the same user in the same room. A statement that
-- would do nothing is not begun: that alone is dearer than what it would do for one command.
-- needs: users, rooms and sessions locked.
create function headcount.carry_out(p_wave headcount.command[], p_now timestamptz)
returns void language plpgsql as $$
declare
    v_any record;
begin
    select
        bool_or(c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0')) as kept,
        bool_or(c.op = 'join' and c.outcome = 'ok' and not c.known) as added,
        bool_or(c.op in ('leave', 'kick')) as ended
    into v_any
    from unnest(p_wave) c;

    if v_any.kept then
        update headcount.memberships m
        set status = coalesce(c.status, m.status),
            state = coalesce(c.state, m.state),
            changed_at = case when c.state is null then m.changed_at else clock_timestamp() end,
            invisible = coalesce(c.invisible, m.invisible),
            -- Who shows themselves joins now: since when they were there unseen is not told.
            joined_at = case
                when m.invisible and not c.invisible then coalesce(c.seen_from, p_now)
                else m.joined_at
            end,
            seq = greatest(m.seq, c.seq),
            leaving_at = case c.op when 'leave' then p_now + c.grace when 'join' then null else m.leaving_at end
        from unnest(p_wave) c
        where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id])
          and m.session_id = any (array[c.session_id])
          and c.known and c.outcome = 'ok' and (c.op in ('join', 'update') or c.op = 'leave' and c.grace > '0');
    end if;

    if v_any.added then
        insert into headcount.memberships
            (room_id, user_id, session_id, status, state, invisible, seq, joined_at, changed_at)
        select
            c.room_id, c.user_id, c.session_id, coalesce(c.status, 'online'), c.state, coalesce(c.invisible, false),
            coalesce(c.seq, 0),
            coalesce(case when c.invisible is not true then c.seen_from end, p_now),
            clock_timestamp()
        from unnest(p_wave) c
        where c.op = 'join' and c.outcome = 'ok' and not c.known
        order by c.room_id, c.user_id, c.session_id;
    end if;

    if v_any.ended then
        with departed as (
            delete from headcount.memberships m
            using unnest(p_wave) c
            where m.room_id = any (array[c.room_id]) and m.user_id = any (array[c.user_id]) and c.outcome = 'ok'
              and (c.op = 'kick' or c.op = 'leave' and c.grace <= '0' and m.session_id = c.session_id)
            returning m.session_id, m.room_id, m.user_id, greatest(m.seq, c.seq) as seq, c.op = 'kick' as kicked
        ), early as (
            -- A leave that overtook its join is remembered, so that the join is ignored when it comes. Once for a
            -- session that several users claim, or the insert would fail, and the whole batch with it.
            select distinct on (c.session_id, c.room_id) c.session_id, c.room_id, c.user_id, c.seq, false
            from unnest(p_wave) c
            where c.op = 'leave' and c.outcome = 'absent' and c.seq is not null
            order by c.session_id, c.room_id, c.ord
        )
        insert into headcount.departures as d (session_id, room_id, user_id, seq, kicked)
        select * from departed union all select * from early
        on conflict (session_id, room_id) do update
        set seq = greatest(d.seq, excluded.seq), kicked = excluded.kicked, left_at = excluded.left_at;
    end if;
end
$$;

-- A session whose last membership is gone is gone. needs: the sessions locked.
create function headcount.end_sessions(p_sessions uuid[]) returns void language plpgsql as $$
begin
    delete from headcount.presence p
    where p.session_id = any (p_sessions)
      and not exists (select from headcount.memberships m where m.session_id = p.session_id offset 0);
end
$$;

-- Which of these sessions were kicked out of which rooms, and did not join those again. A user's own, if one is named.
create function headcount.kicked(p_sessions uuid[], p_user text default null)
returns table (session_id uuid, room_id text) language sql stable as $$
    select d.session_id, d.room_id
    from headcount.departures d
    where d.session_id = any (p_sessions) and d.kicked and (p_user is null or d.user_id = p_user)
      and not exists (
          select from headcount.memberships m
          where m.room_id = d.room_id and m.user_id = d.user_id and m.session_id = d.session_id
      )
    order by d.room_id
$$;

-- Carries out one wave, decided before. The touched members are logged and answered; the refused are answered.
create function headcount.apply_wave(p_wave headcount.command[], p_now timestamptz)
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
begin
    perform headcount.carry_out(p_wave, p_now);
    return array(
        select (l.ord, l.room_id, 'ok', l.created, l.member)::headcount.answer
        from headcount.log_changes(v_touched) l
        union all
        select (c.ord, c.room_id, c.outcome, false, null)::headcount.answer
        from unnest(p_wave) c
        where c.outcome in ('absent', 'foreign')
    );
end
$$;

create function headcount.joined_profiles(p_commands headcount.command[])
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

-- The joins that would give a user more rooms or more sessions than they may have: the newest are refused, what is
-- there is never ended for them. One that repeats, or adds a tab in a room to it, needs nothing new. What the batch
-- itself gives up counts until the next. needs: the users locked, so that nothing of theirs grows meanwhile.
-- No user's memberships are read further than p_most, which is a limit too.
create function headcount.over_limit(
    p_commands headcount.command[], p_rooms_max integer, p_sessions_max integer, p_most integer default 5000
)
returns headcount.answer[] language plpgsql stable as $$
declare
    -- Nobody has more rooms or sessions than memberships, so nearly every batch ends here, after a count for each user.
    v_least    integer := least(p_rooms_max, p_sessions_max, p_most);
    v_suspects text[] := array(
        select u.user_id
        from (
            select c.user_id, count(*) as joins from unnest(p_commands) c where c.limited group by c.user_id
        ) u
        cross join lateral (
            select count(*) as places
            from (
                select from headcount.memberships m where m.user_id = any (array[u.user_id]) limit v_least
            ) m
            offset 0
        ) h
        where h.places + u.joins > v_least
    );
begin
    if v_suspects = '{}' then
        return '{}';
    end if;
    return array(
        select (j.ord, j.room_id, j.outcome, false, null)::headcount.answer
        from (
            select
                n.ord, n.room_id,
                case
                    when n.new_session and n.sessions + dense_rank() over (
                        partition by n.user_id, n.new_session order by n.session_first
                    ) > p_sessions_max then 'sessions_full'
                    when n.new_room and n.rooms + dense_rank() over (
                        partition by n.user_id, n.new_room order by n.room_first
                    ) > p_rooms_max or n.places >= p_most then 'rooms_full'
                end as outcome
            from (
                select
                    c.ord, c.room_id, c.user_id, cardinality(h.rooms) as rooms, cardinality(h.sessions) as sessions,
                    h.places, c.room_id <> all (h.rooms) as new_room, c.session_id <> all (h.sessions) as new_session,
                    min(c.ord) over (partition by c.user_id, c.room_id) as room_first,
                    min(c.ord) over (partition by c.user_id, c.session_id) as session_first
                from unnest(p_commands) c
                cross join lateral (
                    select
                        coalesce(array_agg(distinct m.room_id), '{}') as rooms,
                        coalesce(array_agg(distinct m.session_id), '{}') as sessions,
                        count(*) as places
                    from (
                        select m.room_id, m.session_id from headcount.memberships m
                        where m.user_id = any (array[c.user_id])
                        limit p_most
                    ) m
                    offset 0
                ) h
                where c.limited and c.user_id = any (v_suspects) and not exists (
                    select from headcount.memberships m
                    where m.room_id = c.room_id and m.user_id = c.user_id and m.session_id = c.session_id
                    offset 0
                )
            ) n
        ) j
        where j.outcome is not null
    );
end
$$;

create type headcount.admitted as (ord integer, room_id text, epoch text, version bigint, member jsonb);

-- Whether nothing is set about rooms that admit_newcomers does not ask for.
create function headcount.may_admit() returns boolean language plpgsql stable as $$
begin
    return true;
end
$$;

-- The short way of the joins that have nothing to be compared with: a session that this batch made (p_created, each with
-- whose it is), of a user who is not in the room yet. What they are and what happens follows from the command alone, so
-- they are members, events and versions in one statement, and each row is looked up once. It is what nearly all joins are,
-- and a third cheaper than the way that knows everything (decide, apply_wave). Gives those it admitted; of the others
-- nothing is done, nor of any but the first about a user in a room.
-- needs: users and rooms locked.
--
-- Joins of one list with another are by hash, and plain: the planner takes lists for short, and would compare each with
-- each. Look-ups in tables are the index's, as everywhere (0002).
create function headcount.admit_newcomers(
    p_commands headcount.command[], p_created uuid[], p_owners text[], p_now timestamptz
)
returns headcount.admitted[] language plpgsql
set enable_hashjoin = on
set enable_nestloop = off
as $$
declare
    v_lineage text := headcount.lineage();
    v_now     text := to_char(p_now at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
    -- What is said of a session's visibility last counts, and is found out by looking at all that is said of it.
    v_hidden  uuid[] := array(select c.session_id from unnest(p_commands) c where c.visible = false);
    v_given   headcount.admitted[];
begin
    with newcomer as materialized (
        select
            c.ord, c.room_id, c.user_id, c.session_id, c.seq, coalesce(c.status, 'online') as status, c.state,
            row_number() over (partition by c.room_id order by c.ord) as n,
            -- As headcount.member has it. Texts alone are four times as quick to put together.
            jsonb_object(
                '{id, name, avatar_url, status, joined_at}',
                array[c.user_id, u.name, u.avatar_url, coalesce(c.status, 'online'), v_now]
            ) || case
                when c.state is null then '{"state": {}, "sessions": 1}'
                else jsonb_build_object('state', c.state, 'sessions', 1)
            end as member
        from unnest(p_commands) c
        join unnest(p_created, p_owners) s (session_id, user_id) on s.session_id = c.session_id and s.user_id = c.user_id
        cross join lateral (
            select u.name, u.avatar_url from headcount.users u where u.user_id = c.user_id offset 0
        ) u
        where c.op = 'join' and c.wave = 1 and c.invisible is not true
          and c.session_id <> all (v_hidden)
          and not exists (
              select from headcount.memberships m where m.room_id = c.room_id and m.user_id = c.user_id offset 0
          )
          and (c.seq is null or not exists (
              select from headcount.departures d
              where d.session_id = c.session_id and d.room_id = c.room_id and d.seq > c.seq
              offset 0
          ))
    ), present as (
        insert into headcount.memberships (room_id, user_id, session_id, status, state, seq, joined_at, changed_at)
        select c.room_id, c.user_id, c.session_id, c.status, c.state, coalesce(c.seq, 0), p_now, clock_timestamp()
        from newcomer c
        order by c.room_id, c.user_id
    ), moved as (
        update headcount.rooms r
        set version = r.version + c.events,
            member_count = r.member_count + c.events,
            epoch = v_lineage || substr(r.epoch, 9)
        from (select room_id, count(*) as events from newcomer group by room_id) c
        where r.room_id = any (array[c.room_id])
        returning r.room_id, r.epoch, r.version, r.version - c.events as before
    ), logged as (
        insert into headcount.events (room_id, version, kind, user_id, member)
        select c.room_id, r.before + c.n, 'joined', c.user_id, c.member
        from newcomer c
        join moved r on r.room_id = c.room_id
    )
    select array_agg((c.ord, c.room_id, r.epoch, r.version, c.member)::headcount.admitted) into v_given
    from newcomer c
    join moved r on r.room_id = c.room_id;
    return coalesce(v_given, '{}');
end
$$;

-- Applies a batch of commands in the order of their `ord`, in one transaction, and answers each.
--
-- Commands about the same user in the same room go in successive waves, so that each has its own event;
-- everything else goes in the first. Each wave is a handful of statements over all its commands, every one
-- of them a walk over the batch with index look-ups; the settings forbid the other plans that are left (0002).
--
-- Without p_wait, commands that need a room or a user which somebody holds are answered `busy` and nothing is
-- done for them: one held room must not stop the others in the batch.
--
-- Of the joins that are `limited`, those are refused that would give their user more rooms or sessions than these.
create function headcount.apply(
    p_commands jsonb, p_wait boolean default true,
    p_rooms_max integer default null, p_sessions_max integer default null
)
returns table (ord integer, outcome text, epoch text, version bigint, created boolean, member jsonb)
language plpgsql
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_generic_plan
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

create function headcount.join(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_visible boolean default null,
    p_invisible boolean default null,
    p_name text default null, p_avatar_url text default null, p_seq bigint default null,
    p_lease interval default '45 s', p_lease_hidden interval default '150 s'
)
returns table (outcome text, epoch text, version bigint, created boolean, member jsonb) language sql as $$
    select outcome, epoch, version, created, member from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'join', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'visible', p_visible, 'invisible', p_invisible,
        'name', p_name, 'avatar_url', p_avatar_url,
        'seq', p_seq, 'lease', p_lease, 'lease_hidden', p_lease_hidden
    )))
$$;

create function headcount.leave(
    p_room text, p_user text, p_session uuid, p_grace interval default '0', p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint) language sql as $$
    select outcome, epoch, version from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'leave', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'grace', p_grace, 'seq', p_seq
    )))
$$;

create function headcount.update(
    p_room text, p_user text, p_session uuid,
    p_status text default null, p_state jsonb default null, p_invisible boolean default null,
    p_seq bigint default null
)
returns table (outcome text, epoch text, version bigint, member jsonb) language sql as $$
    select outcome, epoch, version, member from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'update', 'room_id', p_room, 'user_id', p_user, 'session_id', p_session,
        'status', p_status, 'state', p_state, 'invisible', p_invisible, 'seq', p_seq
    )))
$$;

create function headcount.kick(p_room text, p_user text)
returns table (outcome text, epoch text, version bigint) language sql as $$
    select outcome, epoch, version from headcount.apply(jsonb_build_array(jsonb_build_object(
        'ord', 1, 'op', 'kick', 'room_id', p_room, 'user_id', p_user
    )))
$$;
