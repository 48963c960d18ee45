-- Leases: how long a session lives without a heartbeat. A lease is compared with now in sweep.sql (find_due, lock_expired).
--
-- A lease is a session's, and a session may be in many rooms: it has the shortest of theirs, so that no room keeps
-- anybody longer than it says. It is found when the session joins or updates, and kept in its row, where its heartbeats
-- find it: they look at nothing else, with settings and without. So a session goes by what was set when it last joined.

-- Inlined, both.
create or replace function headcount.default_lease() returns interval language sql immutable as $$
    select interval '45 s'
$$;
comment on function headcount.default_lease is 'The lease of a visible session, where a caller says nothing.';

create or replace function headcount.default_lease_hidden() returns interval language sql immutable as $$
    select interval '150 s'
$$;
comment on function headcount.default_lease_hidden is 'The same of a hidden session.';

-- Whether the settings of any room say something about leases. If none does, nothing else about them is looked up.
create or replace function headcount.leases_are_set() returns boolean language plpgsql stable as $$
begin
    return exists (
        select from headcount.room_settings s where s.lease is not null or s.lease_hidden is not null
    );
end
$$;

-- Renews the sessions of the `ok` joins and updates. Once for the whole batch, because which command is the last
-- to say whether a session is visible does not depend on waves. needs: the sessions locked.
create or replace function headcount.renew_sessions(
    p_commands headcount.command[], p_verdicts headcount.verdict[], p_now timestamptz
)
returns void language plpgsql as $$
begin
    if not exists (
        select from unnest(p_commands, p_verdicts) c
        where c.renews and c.outcome = 'ok' and c.op in ('join', 'update')
    ) then
        return;
    end if;
    update headcount.presence p
    set last_seen = p_now,
        last_active = p_now,
        visible = coalesce(c.visible, p.visible),
        lease = case when coalesce(c.visible, p.visible) then c.lease else c.lease_hidden end,
        lease_visible = null,
        lease_hidden = null
    from (
        select
            d.session_id,
            (array_agg(d.visible order by d.ord desc) filter (where d.visible is not null))[1] as visible,
            max(d.lease) as lease,
            max(d.lease_hidden) as lease_hidden
        from unnest(p_commands, p_verdicts) d
        where d.op in ('join', 'update') and d.outcome in ('ok', 'admitted')
        group by d.session_id
        having bool_or(d.renews and d.outcome = 'ok')
    ) c
    where p.session_id = any (array[c.session_id]);
    if headcount.leases_are_set() then
        perform headcount.set_leases(p_commands, p_verdicts);
    end if;
end
$$;

-- Gives these sessions the shortest leases that the settings of their rooms say. For a room about which the settings say
-- nothing counts what the command has. needs: the sessions locked.
create or replace function headcount.set_leases(p_commands headcount.command[], p_verdicts headcount.verdict[])
returns void language plpgsql as $$
begin
    update headcount.presence p
    set lease_visible = l.visible,
        lease_hidden = greatest(l.visible, l.hidden),
        lease = case when p.visible then l.visible else greatest(l.visible, l.hidden) end
    from (
        select
            c.session_id,
            min(coalesce(s.lease, c.lease)) as visible,
            min(coalesce(s.lease_hidden, c.lease_hidden)) as hidden
        from (
            select d.session_id, max(d.lease) as lease, max(d.lease_hidden) as lease_hidden
            from unnest(p_commands, p_verdicts) d
            where d.op in ('join', 'update') and d.outcome = 'ok'
            group by d.session_id
        ) c
        cross join lateral (
            select m.room_id from headcount.memberships m where m.session_id = c.session_id offset 0
        ) m
        cross join lateral headcount.settings_of(m.room_id) s
        group by c.session_id
        having bool_or(s.lease is not null or s.lease_hidden is not null)
    ) l
    where p.session_id = any (array[l.session_id]);
end
$$;
