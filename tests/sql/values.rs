//! What an application's role may not write: values that HTTP refuses, by functions or by plain SQL.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::calls::{count, join, log, run};
use crate::support;
use crate::support::law::assert_lawful;

/// A statement, and the argument or column that its refusal names.
const REFUSED: &[(&str, &str)] = &[
    (r"select headcount.join('p2', E'x\ny', gen_random_uuid())", "user"),
    (r"select headcount.join('p2', E'x\u0085y', gen_random_uuid())", "user"),
    ("select headcount.join('p2', '', gen_random_uuid())", "user"),
    ("select headcount.join('p2', null, gen_random_uuid())", "user"),
    ("select headcount.join('p2', repeat('x', 129), gen_random_uuid())", "user"),
    ("select headcount.join('a b', 'ann', gen_random_uuid())", "room"),
    ("select headcount.join('..', 'ann', gen_random_uuid())", "room"),
    ("select headcount.join(null, 'ann', gen_random_uuid())", "room"),
    ("select headcount.join('p2', 'ann', null)", "session"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_status => 'away')", "status"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_name => '')", "name"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_name => repeat('x', 257))", "name"),
    (
        "select headcount.join('p2', 'ann', gen_random_uuid(), p_avatar_url => 'javascript:alert(1)')",
        "avatar_url",
    ),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_avatar_url => 'https://')", "avatar_url"),
    (
        r"select headcount.join('p2', 'ann', gen_random_uuid(), p_avatar_url => E'https://a/\nb')",
        "avatar_url",
    ),
    (
        r#"select headcount.join('p2', 'ann', gen_random_uuid(), p_avatar_url => 'https://a/"b')"#,
        "avatar_url",
    ),
    (
        "select headcount.join('p2', 'ann', gen_random_uuid(), p_state => to_jsonb(repeat('x', 2000000)))",
        "state",
    ),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_state => '1e308')", "state"),
    (
        "select headcount.join('p2', 'ann', gen_random_uuid(), \
         p_state => (repeat('[', 33) || repeat(']', 33))::jsonb)",
        "state",
    ),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_lease => '10000 years')", "lease"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_lease => '1 mon -29 days -23:30')", "lease"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_lease => '0')", "lease"),
    ("select headcount.join('p2', 'ann', gen_random_uuid(), p_lease_hidden => '61 min')", "lease_hidden"),
    ("select headcount.update('p2', 'ann', gen_random_uuid(), p_status => 'away')", "status"),
    ("select headcount.update('p2', 'ann', gen_random_uuid(), p_state => '[1e40]')", "state"),
    ("select headcount.leave('p2', 'ann', gen_random_uuid(), p_grace => '1 day')", "grace"),
    ("select headcount.leave('p 2', 'ann', gen_random_uuid())", "room"),
    (r"select headcount.kick('p2', E'x\ny')", "user"),
    (r"select headcount.erase_user(E'x\ny')", "user"),
    (r"select headcount.put_users(array[(E'x\ny', 'X', null, null)::headcount.profile])", "user_id"),
    ("select headcount.put_users(array[('x', '', null, null)::headcount.profile])", "name"),
    ("select headcount.put_users(array[('x', 'X', 'http://a/', null)::headcount.profile])", "avatar_url"),
    ("select headcount.put_users(array[('x', 'X', null, 'all')::headcount.profile])", "show_last_seen"),
];

/// The same by plain SQL.
const REFUSED_ROWS: &[(&str, &str)] = &[
    (r"insert into headcount.users (user_id, name) values (E'x\ny', 'X')", "user_id"),
    ("insert into headcount.users (user_id, name) values ('', 'X')", "user_id"),
    ("insert into headcount.users (user_id, name) values ('x', '')", "name"),
    ("insert into headcount.users (user_id, name, avatar_url) values ('x', 'X', 'http://a/')", "avatar_url"),
    ("update headcount.users set name = ''", "name"),
    ("update headcount.users set avatar_url = 'javascript:alert(1)'", "avatar_url"),
    ("update headcount.users set avatar_url = ''", "avatar_url"),
    // Whatever the writer puts before the names that the rules use.
    (
        "set local search_path = application, pg_catalog, headcount; \
         insert into headcount.users (user_id, name) values (E'x\\ny', 'X')",
        "user_id",
    ),
];

const REFUSED_SETTINGS: &[(&str, &str)] = &[
    ("insert into headcount.room_settings (pattern) values ('.*')", "pattern"),
    ("insert into headcount.room_settings (pattern) values ('a b')", "pattern"),
    ("insert into headcount.room_settings (pattern, lease) values ('a', '1 s')", "lease"),
    ("insert into headcount.room_settings (pattern, lease) values ('a', '1 mon -29 days -23:30')", "lease"),
    ("insert into headcount.room_settings (pattern, lease_hidden) values ('a', '2 h')", "lease_hidden"),
];

async fn refused(connection: &mut PgConnection, statement: &'static str, code: &str, named: &str) {
    let mut savepoint = connection.begin().await.unwrap();
    let error = (&mut *savepoint).execute(statement).await.expect_err(statement);
    let error = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
    assert_eq!((error.code(), error.column()), (code, Some(named)), "{statement}: {error}");
    assert!(error.message().contains(named), "{statement}: {error}");
    savepoint.rollback().await.unwrap();
}

/// Makes a role that may do what an application may, with a schema of its own, until the transaction ends.
async fn become_an_application(connection: &mut PgConnection) {
    for statement in [
        "create role an_application",
        "create schema application authorization an_application",
        "select headcount.grant_to_application('an_application')",
        "set local role an_application",
        "create function application.never(text, text) returns boolean language sql as 'select false'",
        "create operator application.!~ (leftarg = text, rightarg = text, function = application.never)",
    ] {
        connection.execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn an_application_can_write_no_value_that_http_refuses() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "p2", "ann", 1).await;
    let before = log(&mut connection, "p2").await;
    let mut transaction = connection.begin().await.unwrap();
    become_an_application(&mut transaction).await;
    for (statement, named) in REFUSED {
        refused(&mut transaction, statement, "22023", named).await;
    }
    for (statement, named) in REFUSED_ROWS {
        refused(&mut transaction, statement, "23514", named).await;
    }
    run(&mut transaction, "reset role").await;
    for (statement, named) in REFUSED_SETTINGS {
        refused(&mut transaction, statement, "23514", named).await;
    }
    transaction.rollback().await.unwrap();
    assert_eq!(log(&mut connection, "p2").await, before);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn no_setting_of_an_applications_own_keeps_a_new_name_from_the_rooms() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "p2", "ann", 1).await;
    let mut transaction = connection.begin().await.unwrap();
    become_an_application(&mut transaction).await;
    run(&mut transaction, "set headcount.within_rules = 'on'").await;
    run(&mut transaction, "update headcount.users set name = 'quietly' where user_id = 'ann'").await;
    run(&mut transaction, "reset role; reset headcount.within_rules").await;
    assert_eq!(log(&mut transaction, "p2").await, ["joined ann", "updated ann"]);
    let named = "select count(*) from headcount.users where user_id = 'ann' and named_at is not null";
    assert_eq!(count(&mut transaction, named).await, 1, "so that no older token undoes it");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn what_is_at_a_limit_is_taken() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let flat = format!("\"{}\"", "x".repeat(1022));
    let deep = format!("{}{}{}", "[".repeat(32), 1, "]".repeat(32));
    for (n, state) in
        [flat.as_str(), &deep, "1e31", "0.000000000000000000000000000001"].into_iter().enumerate()
    {
        let joined = format!(
            "select count(*) from headcount.join('p2', 'ann', gen_random_uuid(), p_state => '{state}', p_lease => '2 s', \
             p_lease_hidden => '1 h', p_name => repeat('x', 256), p_avatar_url => 'HTTPS://a' || repeat('/', 2039)) \
             where outcome = 'ok' and {n} >= 0"
        );
        let row: i64 = sqlx::query_scalar(AssertSqlSafe(joined)).fetch_one(&mut connection).await.unwrap();
        assert_eq!(row, 1, "{state}");
    }
    let removed = "select count(*) from headcount.join('p2', 'ann', gen_random_uuid(), p_avatar_url => '') \
         where outcome = 'ok' and member ->> 'avatar_url' is null";
    assert_eq!(count(&mut connection, removed).await, 1);
    assert_lawful(&mut connection).await;
}
