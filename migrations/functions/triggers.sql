-- Which function runs when a table is written. The loader runs this file last, with the tables locked.

-- What the rules themselves write at every leave (last_seen_at) does not get as far as the function.
create or replace trigger check_profile before update on headcount.users for each row
when (
    old.user_id <> new.user_id
    or (old.name, old.avatar_url, old.show_last_seen) is distinct from (new.name, new.avatar_url, new.show_last_seen)
)
execute function headcount.check_profile();

-- Statements that set none of these do not get as far as the function: what the rules write at every leave is last_seen_at.
create or replace trigger check_user before insert or update of user_id, name, avatar_url on headcount.users
for each row execute function headcount.check_user();

create or replace trigger check_room_settings before insert or update on headcount.room_settings
for each row execute function headcount.check_room_settings();

-- Suppressed while the rules write (profiles_are_told). Any role can set the setting, so it counts only for the owner: the
-- functions run as the owner, and no other role may call that function.
create or replace trigger log_profiles after update on headcount.users
referencing old table as old_rows new table as new_rows
for each statement
when (
    current_setting('headcount.within_rules', true) is distinct from 'on'
    or not has_function_privilege('headcount.profiles_are_told(boolean)'::regprocedure, 'execute')
)
execute function headcount.log_profiles();

create or replace trigger end_presence after delete on headcount.users
referencing old table as old_rows
for each statement
execute function headcount.end_presence();

create or replace trigger webhook_erase after delete on headcount.users
for each row execute function headcount.webhook_erase();

create or replace trigger announce_settings after insert or update or delete or truncate on headcount.room_settings
for each statement execute function headcount.announce_settings();

create or replace trigger access_changed after insert or update or delete or truncate on headcount.revocations
for each statement execute function headcount.access_changed();
