-- How the planner is led, in one place. A function that needs it says `set headcount.planner = NAME`, and this replaces
-- the name by settings. Loaded after all functions.
--
-- A plan is kept from when a table had one row until it has a million, and a plain join of one row is quickest by
-- reading the whole table. README.md beside this file says how look-ups are written so that one way is left.
do $$
declare
    v_function record;
begin
    for v_function in
        select p.oid::regprocedure as name, substr(s.setting, 19) as planner
        from pg_proc p
        cross join unnest(p.proconfig) s (setting)
        where p.pronamespace = 'headcount'::regnamespace and s.setting like 'headcount.planner=%'
    loop
        execute format('alter function %s reset headcount.planner %s', v_function.name, case v_function.planner
            -- Rows of tables are looked up one by one through indexes, whatever size the tables had at first.
            when 'by_index' then
                'set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off '
                'set enable_indexonlyscan = off set jit = off set plan_cache_mode = force_generic_plan'
            -- Within such a function: lists are joined with lists by hash. The planner takes them for short, and would
            -- compare each with each.
            when 'joins_lists' then 'set enable_hashjoin = on set enable_nestloop = off'
            -- Small tables, of webhooks.
            when 'nested_loops' then 'set enable_hashjoin = off set enable_mergejoin = off set jit = off'
            -- One room's part of the log, however much of it that is.
            when 'no_scans' then 'set enable_seqscan = off set jit = off'
        end);
    end loop;
end
$$;
