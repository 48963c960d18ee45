-- Which values are good: one home for each rule. The functions that applications call check their arguments by these, and
-- triggers check what is written to the tables directly. HTTP takes exactly the same values (src/domain); a test plays
-- the same values against both. Strings with a backslash are E'...': a caller may set standard_conforming_strings.

-- Inlined, as all rules here. A null is no id.
create or replace function headcount.is_room_id(p_room text) returns boolean language sql immutable as $$
    select coalesce(
        char_length(p_room) between 1 and 128
        and btrim(p_room, 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_.:~-') = ''
        and p_room not in ('.', '..'),
        false
    )
$$;

create or replace function headcount.is_user_id(p_user text) returns boolean language sql immutable as $$
    select coalesce(char_length(p_user) between 1 and 128 and p_user !~ E'[\\x01-\\x1f\\x7f-\\x9f]', false)
$$;

-- A null in what follows keeps what is stored, and is good.
create or replace function headcount.is_name(p_name text) returns boolean language sql immutable as $$
    select coalesce(char_length(p_name) between 1 and 256, true)
$$;

-- A scheme and a host at least, and no character that ends an address in text or in HTML.
create or replace function headcount.is_picture(p_url text) returns boolean language sql immutable as $$
    select coalesce(
        char_length(p_url) <= 2048
        and p_url ~* '^https://[^/?#]'
        and p_url !~ E'[\\x01-\\x20\\x7f-\\xa0"<>\\\\^`{|}]',
        true
    )
$$;

create or replace function headcount.is_status(p_status text) returns boolean language sql immutable as $$
    select coalesce(p_status in ('online', 'idle', 'dnd'), true)
$$;

create or replace function headcount.is_show_last_seen(p_show text) returns boolean language sql immutable as $$
    select coalesce(p_show in ('exact', 'coarse', 'hidden'), true)
$$;

-- Days and months are no fixed number of hours, so an interval that has them is refused, whatever it compares to.
create or replace function headcount.is_span(p_span interval, p_least interval, p_most interval) returns boolean
language sql immutable as $$
    select coalesce(
        p_span between p_least and p_most and extract(day from p_span) = 0 and extract(month from p_span) = 0
        and extract(year from p_span) = 0,
        true
    )
$$;

create or replace function headcount.is_room_lease(p_lease interval) returns boolean language sql immutable as $$
    select headcount.is_span(p_lease, '3 s', '1 h')
$$;

create or replace function headcount.is_pattern(p_pattern text) returns boolean language sql immutable as $$
    select coalesce(
        p_pattern = '*'
        or headcount.is_room_id(case when p_pattern like '%*' then left(p_pattern, -1) else p_pattern end),
        false
    )
$$;

-- Measured as it is stored and sent, because jsonb writes numbers out: 1e308 has 309 digits. Nearly every state is
-- small and flat, and its text tells so; the two paths look at what is left.
create or replace function headcount.is_state(p_state jsonb) returns boolean language plpgsql immutable as $$
declare
    v_text text := p_state::text;
begin
    if v_text is null then
        return true;
    end if;
    if octet_length(v_text) > 1024 then
        return false;
    end if;
    if char_length(v_text) - char_length(translate(v_text, '[{', '')) > 32
        and jsonb_path_exists(p_state, 'strict $.**{32 to last} ? (@.type() == "array" || @.type() == "object")')
    then
        return false;
    end if;
    return v_text !~ '[-.0-9]{33}' or not exists (
        select from jsonb_path_query(p_state, 'strict $.** ? (@.type() == "number")') n (number)
        where octet_length(n.number::text) > 32
    );
end
$$;

-- What a good value is, in the words of the error that refuses another.
create or replace function headcount.rule_of(p_argument text) returns text language sql immutable as $$
    select case p_argument
        when 'room' then '1 to 128 characters of A-Z a-z 0-9 _ . : ~ - and neither . nor ..'
        when 'user' then '1 to 128 characters without control characters'
        when 'user_id' then '1 to 128 characters without control characters'
        when 'session' then 'a UUID'
        when 'status' then 'online, idle or dnd'
        when 'state' then
            'at most 1024 bytes as it is stored, in at most 32 levels, each number at most 32 characters written out'
        when 'name' then '1 to 256 characters'
        when 'avatar_url' then 'an https: address of at most 2048 characters'
        when 'show_last_seen' then 'exact, coarse or hidden'
        when 'lease' then '2 s to 1 h, in hours, minutes and seconds'
        when 'lease_hidden' then '2 s to 1 h, in hours, minutes and seconds'
        when 'grace' then '0 to 300 s, in hours, minutes and seconds'
        when 'pattern' then 'a room, or the beginning of rooms with * after it'
        when 'room lease' then '3 s to 1 h, in hours, minutes and seconds'
    end
$$;

-- Refuses the argument of a function: SQLSTATE 22023, with the name of the argument.
create or replace function headcount.refuse_argument(p_argument text) returns void language plpgsql immutable as $$
begin
    raise 'p_% is not good: it is %', p_argument, headcount.rule_of(p_argument)
        using errcode = 'invalid_parameter_value', column = p_argument;
end
$$;

-- A lease or a grace that an application gives, within the bounds of a deployment's settings. The service's own commands
-- bring those settings, which are checked when it starts.
create or replace function headcount.good_span(p_argument text, p_span interval, p_least interval, p_most interval)
returns interval language plpgsql immutable as $$
begin
    if not headcount.is_span(p_span, p_least, p_most) then
        perform headcount.refuse_argument(p_argument);
    end if;
    return p_span;
end
$$;

-- Refuses a value that is written to a table: SQLSTATE 23514, with the name of the column.
create or replace function headcount.refuse_column(p_table text, p_column text, p_rule text) returns void
language plpgsql immutable as $$
begin
    raise '% is not good: it is %', p_column, headcount.rule_of(p_rule)
        using errcode = 'check_violation', schema = 'headcount', table = p_table, column = p_column,
            constraint = p_table || '_' || p_column || '_is_good';
end
$$;

-- Refuses the first command with a bad value, and with it the whole batch: nothing is done.
create or replace function headcount.check_commands(p_commands headcount.command[]) returns void
language plpgsql immutable as $$
declare
    v_argument text;
begin
    select f.argument into v_argument
    from unnest(p_commands) c
    cross join lateral (
        select case
            when not headcount.is_room_id(c.room_id) then 'room'
            when not headcount.is_user_id(c.user_id) then 'user'
            when c.session_id is null and c.op <> 'kick' then 'session'
            when not headcount.is_status(c.status) then 'status'
            when c.state is not null and not headcount.is_state(c.state) then 'state'
            when not headcount.is_name(c.name) then 'name'
            when c.avatar_url <> '' and not headcount.is_picture(c.avatar_url) then 'avatar_url'
        end as argument
        offset 0
    ) f
    where f.argument is not null
    limit 1;
    if v_argument is not null then
        perform headcount.refuse_argument(v_argument);
    end if;
end
$$;

-- Refuses the first bad one of profiles that are to be put.
create or replace function headcount.check_profiles(p_profiles headcount.profile[]) returns void
language plpgsql immutable as $$
declare
    v_argument text;
begin
    select f.argument into v_argument
    from unnest(p_profiles) p
    cross join lateral (
        select case
            when not headcount.is_user_id(p.user_id) then 'user_id'
            when not headcount.is_name(p.name) then 'name'
            when p.avatar_url <> '' and not headcount.is_picture(p.avatar_url) then 'avatar_url'
            when not headcount.is_show_last_seen(p.show_last_seen) then 'show_last_seen'
        end as argument
        offset 0
    ) f
    where f.argument is not null
    limit 1;
    if v_argument is not null then
        raise 'p_profiles is not good: % is %', v_argument, headcount.rule_of(v_argument)
            using errcode = 'invalid_parameter_value', column = v_argument;
    end if;
end
$$;

-- Profiles by plain SQL. Runs as the owner with a fixed search_path, so that no function or operator of the writer's
-- takes the place of those in the rules.
create or replace function headcount.check_user() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not headcount.is_user_id(new.user_id) then
        perform headcount.refuse_column('users', 'user_id', 'user_id');
    elsif not headcount.is_name(new.name) then
        perform headcount.refuse_column('users', 'name', 'name');
    elsif not headcount.is_picture(new.avatar_url) then
        perform headcount.refuse_column('users', 'avatar_url', 'avatar_url');
    end if;
    return new;
end
$$;

-- Settings of rooms by plain SQL. The bounds of numbers are constraints of the table.
create or replace function headcount.check_room_settings() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not headcount.is_pattern(new.pattern) then
        perform headcount.refuse_column('room_settings', 'pattern', 'pattern');
    elsif not headcount.is_room_lease(new.lease) then
        perform headcount.refuse_column('room_settings', 'lease', 'room lease');
    elsif not headcount.is_room_lease(new.lease_hidden) then
        perform headcount.refuse_column('room_settings', 'lease_hidden', 'room lease');
    end if;
    return new;
end
$$;
