-- The rights of users end: tokens that are revoked, and bans.

-- A row for each user whose tokens were ever revoked. It stays: a token without an `iat` is refused for them for ever.
create table headcount.revocations (
    user_id    text collate "C" primary key check (char_length(user_id) between 1 and 128),
    not_before timestamptz not null
);
comment on table headcount.revocations is 'Tokens of these users that were issued before not_before are refused.';
comment on column headcount.revocations.not_before is 'A whole second, because a token says no more of when it was issued.';

-- Raised with every change of these tables, in its transaction: replicas look at it every second, and read the tables
-- only when it has changed. A sequence would be raised before the change is committed, and the change be missed.
create table headcount.access_state (
    only_row boolean primary key default true check (only_row),
    changes  bigint  not null default 0
) with (fillfactor = 50);
insert into headcount.access_state default values;
