//! What the role of a service, and that of an application, may do in the database; and that it is no more.

use sqlx::{Connection, Executor, PgConnection};

use crate::calls::count;
use crate::support::{self, SERVICE_ROLE};

/// What `headcount serve` calls.
const CALLED: &[&str] = &[
    "apply",
    "as_member",
    "attendance",
    "epoch",
    "epoch_in",
    "erase_step",
    "erase_user",
    "generation_of",
    "heartbeat",
    "history_bounds",
    "kicked",
    "lineage",
    "member",
    "members_at",
    "notification_key",
    "occupancy",
    "peak_occupancy",
    "put_room_settings",
    "put_users",
    "refresh_idle",
    "remove_room_settings",
    "revoke",
    "sweep",
    "tails",
    "trim",
    "turn_days",
    "unseen_member",
    "webhook_accept",
    "webhook_backlog",
    "webhook_delete",
    "webhook_fail",
    "webhook_gone",
    "webhook_hold",
    "webhook_make",
    "webhook_members",
    "webhook_put",
    "webhook_release",
    "webhook_retention",
    "webhook_target",
    "webhook_tick",
];

/// Each refused for want of a right: what an attacker who has the service's password would try.
const REFUSED: &[&str] = &[
    "insert into headcount.users (user_id, name) values ('eve', 'Eve')",
    "insert into headcount.room_settings (pattern) values ('*')",
    "insert into headcount.rooms (room_id, epoch) values ('lobby', 'a')",
    "update headcount.memberships set user_id = 'eve'",
    "update headcount.presence set last_seen = now()",
    "delete from headcount.events",
    "delete from headcount.events_default",
    "select from headcount.events_default",
    "update headcount.log_state set complete_from = now()",
    "select headcount.make_day(now())",
    "select headcount.drop_oldest_day(now())",
    "truncate headcount.events",
    "select from headcount.rooms for update",
    "do $$ begin lock table headcount.rooms in access exclusive mode; end $$",
    "select salt from headcount.lineage",
    "select * from headcount.departures",
    "select key from headcount.notification_key",
    "select * from headcount.webhook_secrets",
    "update headcount.webhooks set url = 'https://evil.example/'",
    "delete from headcount.webhook_outbox",
    "select headcount.webhook_route(1)",
    "select from headcount.webhook_router for update",
    "do $$ begin lock table headcount.migrations in share update exclusive mode; end $$",
    "select headcount.new_lineage()",
    "select headcount.end_sessions('{}')",
    "select headcount.join('lobby', 'eve', gen_random_uuid())",
    "select headcount.grant_to_service('headcount_service')",
    "create table headcount.mine (a integer)",
    "create function headcount.mine() returns integer language sql as 'select 1'",
    "create or replace function headcount.epoch() returns text language sql as 'select ''a'''",
    "alter function headcount.epoch() reset search_path",
    "drop view headcount.rosters",
    "create table public.mine (a integer)",
    "create schema mine",
    "create extension dblink",
    "create role mine",
    "set role postgres",
    "set session authorization postgres",
    "select * from pg_authid",
    "select pg_read_file('/etc/passwd')",
    "copy (select 1) to program 'true'",
];

async fn refused(connection: &mut PgConnection, statement: &'static str) {
    let error = connection.execute(statement).await.expect_err(statement);
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    assert_eq!(code, "42501", "{statement}: {error}");
}

#[tokio::test]
async fn a_service_may_not_go_around_the_rules() {
    let database = support::database().await;
    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    for statement in REFUSED {
        refused(&mut service, statement).await;
    }
}

#[tokio::test]
async fn a_service_has_the_rights_that_it_needs_and_no_others() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let written = "select c.relname::text from pg_class c where c.relnamespace = 'headcount'::regnamespace \
         and c.relkind in ('r', 'v', 'm', 'p') \
         and has_table_privilege($1, c.oid, 'insert, update, delete, truncate, references, trigger')";
    let written: Vec<String> =
        sqlx::query_scalar(written).bind(SERVICE_ROLE).fetch_all(&mut connection).await.unwrap();
    assert!(written.is_empty(), "{written:?}");
    let called = "select p.proname::text from pg_proc p where p.pronamespace = 'headcount'::regnamespace \
         and has_function_privilege($1, p.oid, 'execute') order by 1";
    let mut may_call: Vec<String> =
        sqlx::query_scalar(called).bind(SERVICE_ROLE).fetch_all(&mut connection).await.unwrap();
    may_call.sort_unstable();
    assert_eq!(may_call, CALLED);
    let anybody: Vec<String> =
        sqlx::query_scalar(called).bind("public").fetch_all(&mut connection).await.unwrap();
    assert!(anybody.is_empty(), "{anybody:?}");
}

#[tokio::test]
async fn what_runs_with_the_owners_rights_looks_names_up_nowhere_else() {
    let database = support::database().await;
    let open = "select count(*) from pg_proc p where p.pronamespace = 'headcount'::regnamespace and p.prosecdef \
         and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)";
    assert_eq!(count(&mut database.connect().await, open).await, 0);
    let all =
        "select count(*) from pg_proc p where p.pronamespace = 'headcount'::regnamespace and p.prosecdef";
    assert_eq!(count(&mut database.connect().await, all).await, 45);
}

#[tokio::test]
async fn an_application_joins_in_its_own_transaction_and_may_not_write_past_the_rules() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let mut transaction = connection.begin().await.unwrap(); // so that the role is gone afterwards
    transaction.execute("create role an_application").await.unwrap();
    transaction.execute("select headcount.grant_to_application('an_application')").await.unwrap();
    transaction.execute("set local role an_application").await.unwrap();
    transaction
        .execute("select headcount.join('lobby', 'ann', gen_random_uuid(), p_name => 'Ann')")
        .await
        .unwrap();
    let here = "select count(*) from headcount.rosters r join headcount.online o using (user_id)";
    assert_eq!(count(&mut transaction, here).await, 1);
    refused(&mut transaction, "select headcount.apply('[]')").await;
    transaction.rollback().await.unwrap();
}
