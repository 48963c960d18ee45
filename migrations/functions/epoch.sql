-- An epoch names a history whose versions are comparable. Its first 8 characters, the lineage, change with the database,
-- the cluster, or the timeline (failover, point-in-time restore). The rest is the generation in which the room was
-- created, so that a room which was forgotten and created again never repeats a version.
--
-- plpgsql where plain SQL would do, here and elsewhere: it keeps its plans, and an SQL function that is not inlined is
-- planned at every call.

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

-- Inlined.
create or replace function headcount.generation_of(p_epoch text) returns text language sql immutable as $$
    select substr(p_epoch, 9)
$$;

-- Inlined. The lineage is an argument, so that a query over many rooms computes it once.
create or replace function headcount.epoch_in(p_lineage text, p_epoch text) returns text language sql immutable as $$
    select p_lineage || headcount.generation_of(p_epoch)
$$;
comment on function headcount.epoch_in is
    'The epoch of an existing room as of now: the generation of its stored epoch, in the lineage of today.';

-- locks: the row of lineage.
create or replace function headcount.new_lineage() returns void language sql as $$
    update headcount.lineage set salt = gen_random_uuid()
$$;
comment on function headcount.new_lineage is
    'Run once after a restore that kept cluster and timeline (a copied volume): every watcher gets a fresh snapshot.';
