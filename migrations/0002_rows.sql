-- Mends rows that no call over HTTP could have written: names and pictures that functions/values.sql refuses from now on,
-- and users whose id holds control characters. Those could not be read by any replica. Triggers of functions that are
-- loaded already tell the rooms.
update headcount.users set name = user_id where name = '';

update headcount.users set avatar_url = null
where avatar_url !~* '^https://[^/?#]' or avatar_url ~ E'[\\x01-\\x20\\x7f-\\xa0"<>\\\\^`{|}]';

delete from headcount.users where user_id ~ E'[\\x01-\\x1f\\x7f-\\x9f]';

delete from headcount.room_settings where pattern in ('.*', '..*');

-- Whoever moves rows out of the outbox of webhooks, or changes webhooks, locks this row. An advisory lock did it before,
-- which any role can take, and which no table shows.
create table headcount.webhook_router (
    only_row boolean primary key default true check (only_row)
);
comment on table headcount.webhook_router is 'Its row is locked by whoever routes the outbox of webhooks, or changes webhooks.';
insert into headcount.webhook_router default values;
