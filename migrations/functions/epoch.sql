-- How a change becomes history. Every writing function has the same shape:
--   lock; remember the members it touches; change rows; log the differences; announce.
-- Locks, always in this order: users by key, rooms by key, presence by key, memberships by key.
--
-- Every look-up of a batch leaves the planner one way, because a plan is kept from when a table had one row until
-- it has a million, and a plain join of one row is quickest by reading the whole table:
--   `x.key = any (array[b.key])` is no join condition; it can only be answered through the index, row by row;
--   locks are taken by `lateral (... for update)` in the order of a sorted list, not by sorting what was found;
--   a sub-select ends in `offset 0`, so that it is not turned into a join.

-- An epoch names a history whose versions are comparable. Its first 8 characters change with the database,
-- the cluster, or the timeline (failover, point-in-time restore); the rest is the generation in which the
-- room was created, so that a room which was forgotten and created again never repeats a version.
-- plpgsql where plain SQL would do, here and below: it keeps its plans, and an SQL function is planned at every call.
create or replace function headcount.lineage() returns text language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select left(md5(l.salt::text || c.system_identifier || left(pg_walfile_name(pg_current_wal_lsn()), 8)), 8)
        from headcount.lineage l, pg_control_system() c
    );
end
$$;

create or replace function headcount.epoch() returns text language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select headcount.lineage() || to_hex(l.generation) from headcount.lineage l);
end
$$;
comment on function headcount.epoch is 'The epoch of a room created now.';

create or replace function headcount.new_lineage() returns void language sql as $$
    update headcount.lineage set salt = gen_random_uuid()
$$;
comment on function headcount.new_lineage is
    'Run once after a restore that kept cluster and timeline (a copied volume): every watcher gets a fresh snapshot.';
