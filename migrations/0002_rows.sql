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

-- Any role may listen, so notifications name a room by its mark: a hash with this key, which no role is granted to read.
-- A mark is stored with its room, so that a replica finds the room of a mark. Rooms that are there get one with their next
-- event, because to write all of them here would hold up every writer.
create table headcount.notification_key (
    only_row boolean primary key default true check (only_row),
    key      bytea   not null default sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
);
comment on table headcount.notification_key is 'What makes marks of rooms say nothing to those who listen.';
insert into headcount.notification_key default values;

alter table headcount.rooms add column mark bigint;
comment on column headcount.rooms.mark is 'Names the room in notifications; null until the next event of an old room.';
create index rooms_mark on headcount.rooms (mark);
