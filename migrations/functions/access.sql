-- The rights of users end: revocation of their tokens.

-- Refuses the joins that a user's right does not cover any more. A command from a token has `issued`: its `iat` in
-- seconds, 0 for a token without one. Read from the JSON, because a type is never altered. Checked here and not only in
-- the replicas' caches, which are a second behind: a join that began before the revocation must not come after it.
-- needs: the users locked, as revoke locks them.
create or replace function headcount.refuse_barred(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_asked jsonb
)
returns headcount.verdict[] language plpgsql stable as $$
begin
    if exists (select from headcount.revocations) then
        p_verdicts := headcount.refuse(p_verdicts, array(
            select c.ordinality
            from unnest(p_commands) with ordinality c
            join jsonb_to_recordset(p_asked) j (ord integer, issued bigint) on j.ord = c.ord
            where c.op = 'join' and j.issued is not null and exists (
                select from headcount.revocations r
                where r.user_id = c.user_id and extract(epoch from r.not_before) > j.issued
                offset 0
            )
        ), 'revoked');
    end if;
    return p_verdicts;
end
$$;

-- Revokes the tokens of a user that were issued until now, and ends all their sessions, as kicks do. Gives the moment from
-- which on a token must be issued: the next whole second. So a token that was issued in this second is refused, because
-- nobody knows whether that was before.
-- locks: the user, their rooms, their sessions; access_state.
create or replace function headcount.revoke(p_user text) returns timestamptz language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_not_before timestamptz;
begin
    perform headcount.lock_users(array[p_user]);
    perform headcount.kick_out_of(p_user, headcount.rooms_of(array[p_user]));
    insert into headcount.revocations as r (user_id, not_before)
    values (p_user, date_trunc('second', clock_timestamp()) + interval '1 s')
    on conflict (user_id) do update set not_before = greatest(r.not_before, excluded.not_before)
    returning r.not_before into v_not_before;
    return v_not_before;
end
$$;
comment on function headcount.revoke is
    'Ends the user''s sessions, and refuses tokens issued before the time it gives. Replicas follow within 2 s.';

-- Ends all sessions of a user in these rooms. locks: as headcount.apply.
create or replace function headcount.kick_out_of(p_user text, p_rooms text[]) returns void language plpgsql as $$
begin
    if p_rooms <> '{}' then
        perform headcount.apply((
            select jsonb_agg(jsonb_build_object('ord', r.ord, 'op', 'kick', 'room_id', r.room_id, 'user_id', p_user))
            from unnest(p_rooms) with ordinality r (room_id, ord)
        ));
    end if;
end
$$;

-- Tells replicas, when they look next, that they must read again. locks: access_state.
create or replace function headcount.access_changed() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update headcount.access_state s set changes = s.changes + 1;
    return null;
end
$$;
