-- Erasing in steps. Presence and profile of a user end at once, and what the log says of them is read as if it were gone; it
-- is removed from the log by a task, block by block (functions/erase.sql).
--
-- An index of events on user_id was rejected: every event would pay for it, some 5 % of a join and 40 bytes a row, for what
-- is rare. One pass over the log erases everybody who waits, so that many erasures cost no more than one.

create table headcount.erasures (
    user_id  text collate "C" primary key,
    asked_at timestamptz not null,
    begun    boolean not null default false,
    again    boolean not null default false
);
comment on table headcount.erasures is 'Users whom the log still has to forget. Empty nearly always.';
comment on column headcount.erasures.asked_at is 'What happened up to then is to be forgotten; a user who came back afterwards is not.';
comment on column headcount.erasures.begun is 'The pass under way is for them, too.';
comment on column headcount.erasures.again is 'They were erased once more during the pass: there is another one for them.';

create table headcount.erasure_pass (
    only_row   boolean primary key default true check (only_row),
    part       text,
    block      bigint not null default 0,
    stepped_at timestamptz not null default '-infinity'
);
comment on table headcount.erasure_pass is 'How far the pass over the log is. Its row is locked by whoever makes a step.';
comment on column headcount.erasure_pass.part is 'The table that is next, of departures and the partitions of events by name; null: no pass.';
insert into headcount.erasure_pass default values;
