//! The sweep: waits for nobody, believes the newest heartbeat, and survives clocks and outages.

use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::calls::{Swept, blocked, count, heartbeat, join, log, pass, pid, run, sweep};
use crate::support;
use crate::support::law::assert_lawful;

#[tokio::test]
async fn a_sweep_never_waits_for_a_held_room() {
    let holds = [
        "select from headcount.rooms where room_id = 'held' for update",
        "select from headcount.users where user_id = 'ann' for update",
        "select from headcount.presence where user_id = 'ann' for update",
    ];
    for hold in holds {
        let database = support::database().await;
        let (mut holder, mut connection) = (database.connect().await, database.connect().await);
        join(&mut connection, "held", "ann", 1).await;
        join(&mut connection, "free", "ann", 1).await;
        join(&mut connection, "free", "bob", 2).await;
        pass(&mut connection, "ann", 47).await;
        pass(&mut connection, "bob", 46).await;
        let mut holding = holder.begin().await.unwrap();
        run(&mut holding, hold).await;

        run(&mut connection, "set lock_timeout = '500 ms'").await;
        assert_eq!(
            sweep(&mut connection).await,
            Swept { expired: 1, departed: 1, ..Swept::default() },
            "{hold}"
        );
        assert_eq!(log(&mut connection, "free").await, ["joined ann", "joined bob", "left bob expired"]);
        holding.rollback().await.unwrap();

        assert_eq!(sweep(&mut connection).await.departed, 2, "both rooms of the session, once they are free");
        assert_lawful(&mut connection).await;
    }
}

/// Makes a caller of `try_lock_rooms`, a sweep between choosing and locking its sessions, wait for key 1.
const STOP_AT_LOCK_ROOMS: &str = "alter function headcount.try_lock_rooms(text[]) rename to lock_rooms_now; \
     create function headcount.try_lock_rooms(p_rooms text[]) \
     returns headcount.room_version[] language plpgsql as $$ begin \
         perform pg_advisory_xact_lock(1); \
         return headcount.lock_rooms_now(p_rooms); \
     end $$";

#[tokio::test]
async fn a_heartbeat_during_a_sweep_wins() {
    let database = support::database().await;
    let (mut sweeper, mut connection) = (database.connect().await, database.connect().await);
    join(&mut connection, "room", "ann", 1).await;
    join(&mut connection, "room", "bob", 2).await;
    pass(&mut connection, "ann", 46).await;
    pass(&mut connection, "bob", 46).await;
    run(&mut connection, STOP_AT_LOCK_ROOMS).await;
    run(&mut connection, "select pg_advisory_lock(1)").await;
    let pid = pid(&mut sweeper).await;
    let sweeping = tokio::spawn(async move { sweep(&mut sweeper).await });
    assert!(blocked(&mut connection, pid, &sweeping).await, "it has stopped in lock_rooms");
    assert!(heartbeat(&mut connection, "ann", 1).await);
    run(&mut connection, "select pg_advisory_unlock(1)").await;

    assert_eq!(sweeping.await.unwrap().expired, 1);
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "joined bob", "left bob expired"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn after_an_outage_nobody_expires_until_one_lease_later() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "room", "ann", 1).await;
    pass(&mut connection, "ann", 3600).await;
    run(
        &mut connection,
        "update headcount.sweep_state set last_sweep_at = last_sweep_at - interval '3600 s'",
    )
    .await;
    assert_eq!(sweep(&mut connection).await.expired, 0);

    // The outage's end moves into the past, 44 s and then 46.
    for (seconds, expired) in [(44, 0), (2, 1)] {
        let later = format!(
            "update headcount.sweep_state set leases_from = leases_from - interval '{seconds} s', \
                 last_sweep_at = clock_timestamp() - interval '1 s'"
        );
        connection.execute(AssertSqlSafe(later)).await.unwrap();
        assert_eq!(sweep(&mut connection).await.expired, expired);
    }
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann expired"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_keeps_no_ghosts() {
    for recovering in [false, true] {
        let database = support::database().await;
        let mut connection = database.connect().await;
        join(&mut connection, "room", "ann", 1).await;
        join(&mut connection, "room", "bob", 2).await;
        run(
            &mut connection,
            "select headcount.leave('room', 'bob', '00000000-0000-0000-0000-000000000002', '5 s')",
        )
        .await;
        // An hour back: all that was noted before now lies in the future.
        run(
            &mut connection,
            "update headcount.presence set last_seen = last_seen + interval '1 h'; \
             update headcount.memberships set leaving_at = leaving_at + interval '1 h'; \
             update headcount.sweep_state set leases_from = clock_timestamp() + interval '59 min', \
                 last_sweep_at = clock_timestamp() + interval '1 h'",
        )
        .await;
        let state = format!("update headcount.sweep_state set recovering = {recovering}");
        connection.execute(AssertSqlSafe(state)).await.unwrap();
        sweep(&mut connection).await;
        run(
            &mut connection,
            "update headcount.sweep_state set last_sweep_at = clock_timestamp() - interval '1 s'",
        )
        .await;
        sweep(&mut connection).await;
        assert_eq!(log(&mut connection, "room").await, ["joined ann", "joined bob", "left bob left"]);

        run(
            &mut connection,
            "update headcount.presence set last_seen = last_seen - interval '46 s'; \
             update headcount.sweep_state set leases_from = leases_from - interval '46 s', \
                 last_sweep_at = clock_timestamp() - interval '1 s'",
        )
        .await;
        assert_eq!(
            sweep(&mut connection).await.expired,
            1,
            "one lease after the jump, recovering: {recovering}"
        );
        assert_lawful(&mut connection).await;
    }
}

#[tokio::test]
async fn sweeps_of_several_replicas_take_turns() {
    let database = support::database().await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    join(&mut one, "room", "ann", 1).await;
    pass(&mut one, "ann", 46).await;
    let mut sweeping = one.begin().await.unwrap();
    assert_eq!(sweep(&mut sweeping).await.expired, 1);
    assert_eq!(sweep(&mut other).await, Swept::default(), "somebody else is at it");
    sweeping.commit().await.unwrap();
    assert_eq!(count(&mut other, "select count(*) from headcount.events where kind = 'left'").await, 1);
    assert_lawful(&mut other).await;
}

#[tokio::test]
async fn after_an_outage_those_who_leave_and_those_who_expire_share_one_limit() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for n in 0..60 {
        let user = format!("{}-{n}", if n < 30 { "leaving" } else { "silent" });
        join(&mut connection, "room", &user, n).await;
    }
    let due = "update headcount.memberships set leaving_at = now() where user_id like 'leaving%'; \
         update headcount.presence set last_seen = now() - interval '1 h' where user_id like 'silent%'; \
         update headcount.sweep_state set recovering = true, leases_from = '-infinity', \
             last_sweep_at = clock_timestamp() - interval '1 s'";
    run(&mut connection, due).await;
    run(&mut connection, "select headcount.sweep('1 s', '45 s', 1000, 20)").await;
    for of in [
        "select count(*) from headcount.events where reason = 'left'",
        "select count(*) from headcount.events where reason = 'expired'",
    ] {
        assert_eq!(count(&mut connection, of).await, 10, "{of}");
    }
}
