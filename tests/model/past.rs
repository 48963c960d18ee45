//! The past of random histories: what the database says of any moment must be what the model had been then. The
//! histories are played as ever, and then spread over days, by moving the times of all events away from now.

use std::collections::{BTreeMap, BTreeSet};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use crate::database::Database;
use crate::{Play, steps, support};

/// Each asks some hundred questions.
const CASES: usize = 20;

/// How far a history is spread.
const DAYS: i64 = 12;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Times are microseconds since 1970.
#[derive(Deserialize, Debug)]
struct Logged {
    room_id: String,
    user_id: String,
    kind: String,
    member: Option<Value>,
    at: i64,
}

/// By user, what everybody saw of them.
type Seen = BTreeMap<String, Value>;

const LOG: &str = "select coalesce(json_agg(json_build_object('room_id', room_id, 'user_id', user_id, 'kind', kind, \
         'member', member, 'at', (extract(epoch from at) * 1000000)::bigint) order by room_id, version), '[]') \
     from headcount.events";

const AT: &str = "(timestamptz 'epoch' + $ * interval '1 microsecond')";

#[tokio::test]
async fn what_is_told_of_the_past_is_what_was() {
    let home = support::database().await;
    let mut database = Database::new(home.connect().await).await;
    for day in 2..=DAYS + 1 {
        // If it is not there: midnight may have passed since the database was made.
        let make = "select headcount.make_day(d.day at time zone 'UTC') \
             from (select date_trunc('day', now() at time zone 'UTC') - $1 * interval '1 day' as day) d \
             where to_regclass('headcount.events_' || to_char(d.day, 'YYYYMMDD')) is null";
        sqlx::query(make).bind(day).execute(database.connection()).await.unwrap();
    }
    let mut runner = TestRunner::new(Config { source_file: Some(file!()), ..Config::default() });
    let (mut asked, mut days) = (0, BTreeSet::new());
    for _ in 0..CASES {
        database.forget().await;
        let steps = steps::steps().new_tree(&mut runner).unwrap().current();
        let moments = Play::remembering(&mut database).moments(&steps).await.unwrap();
        let past = Past::spread(database.connection(), moments).await;
        days.extend(past.log.iter().map(|event| event.at / DAY));
        asked += past.compare(database.connection()).await.unwrap_or_else(|difference| {
            panic!("{difference}\nafter:\n{}", steps.iter().map(|s| format!("{s:?}\n")).collect::<String>())
        });
    }
    assert!(asked > 1000 && days.len() >= 5, "{asked} questions about {days:?}");
}

struct Past {
    log: Vec<Logged>,
    /// What the model showed of every room, and until when.
    moments: Vec<(i64, BTreeMap<String, Seen>)>,
    /// From when to when.
    first: i64,
    last: i64,
}

impl Past {
    async fn spread(connection: &mut PgConnection, moments: Vec<(i64, BTreeMap<String, Seen>)>) -> Self {
        let last = moments.last().unwrap().0;
        let first = moments.first().unwrap().0;
        let factor = (DAYS * DAY / (last - first).max(1)).max(1);
        let spread = "update headcount.events set at = timestamptz 'epoch' \
             + ($1 - ($1 - (extract(epoch from at) * 1000000)::bigint) * $2) * interval '1 microsecond'";
        sqlx::query(spread).bind(last).bind(factor).execute(&mut *connection).await.unwrap();
        let complete = "update headcount.log_state set complete_from = '2000-01-01T00:00Z'";
        sqlx::query(complete).execute(&mut *connection).await.unwrap();
        let Json(log) = sqlx::query_scalar(LOG).fetch_one(connection).await.unwrap();
        let spread = |at: i64| last - (last - at) * factor;
        let moments = moments.into_iter().map(|(at, seen)| (spread(at), seen)).collect();
        Self { log, moments, first: spread(first), last }
    }

    /// Gives how much was compared, or the first difference.
    async fn compare(&self, connection: &mut PgConnection) -> Result<usize, String> {
        let rooms: BTreeSet<&str> = self.log.iter().map(|event| event.room_id.as_str()).collect();
        let mut asked = 0;
        for room in rooms {
            for (at, seen) in &self.moments {
                let wanted = seen.get(room).cloned().unwrap_or_default();
                same("the model", room, *at, &members_at(connection, room, *at).await, &wanted)?;
            }
            let events: Vec<&Logged> = self.log.iter().filter(|event| event.room_id == room).collect();
            for at in events.iter().flat_map(|event| [event.at - 1, event.at]) {
                same("the log", room, at, &members_at(connection, room, at).await, &fold(&events, at))?;
            }
            asked += self.moments.len() + 2 * events.len();
            let middle = self.first + (self.last - self.first) / 3;
            for (from, to) in [(self.first, self.last), (middle, self.last - DAY), (middle, middle + 1000)] {
                let found = attendance(connection, room, from, to).await;
                let wanted = attended(&events, from, to);
                if found != wanted {
                    return Err(format!(
                        "attendance of {room} from {from} to {to}: {found:?}, not {wanted:?}"
                    ));
                }
                let (found, wanted) =
                    (occupancy(connection, room, from, to).await, occupied(&events, from, to));
                if found != wanted {
                    return Err(format!(
                        "occupancy of {room} from {from} to {to}: {found:?}, not {wanted:?}"
                    ));
                }
            }
            asked += 6;
        }
        asked += self.after_a_trim(connection).await?;
        Ok(asked)
    }

    /// Without its first half, the log still tells who was there in the second.
    async fn after_a_trim(&self, connection: &mut PgConnection) -> Result<usize, String> {
        let cut = self.first + (self.last - self.first) / 2;
        let trim = format!(
            "with cut as (update headcount.log_state set complete_from = {at} returning complete_from) \
             delete from headcount.events e using cut where e.at < cut.complete_from",
            at = AT.replace('$', "$1")
        );
        sqlx::query(sqlx::AssertSqlSafe(trim)).bind(cut).execute(&mut *connection).await.unwrap();
        let mut asked = 0;
        for (at, seen) in self.moments.iter().filter(|(at, _)| *at >= cut) {
            for (room, wanted) in seen {
                asked += 1;
                let found = members_at(connection, room, *at).await;
                if !found.keys().eq(wanted.keys()) {
                    return Err(format!("{room} at {at} after a trim: {found:?}, not {wanted:?}"));
                }
                for (user, member) in found.iter().filter(|(_, member)| member["exact"] == true) {
                    if without_exact(member) != wanted[user] {
                        return Err(format!("{room} at {at} after a trim: {member}, not {}", wanted[user]));
                    }
                }
            }
        }
        Ok(asked)
    }
}

fn same(source: &str, room: &str, at: i64, found: &Seen, wanted: &Seen) -> Result<(), String> {
    let all_exact = found.values().all(|member| member["exact"] == true);
    let found: Seen = found.iter().map(|(user, member)| (user.clone(), without_exact(member))).collect();
    if all_exact && found == *wanted {
        Ok(())
    } else {
        Err(format!("{room} at {at}: {found:?}, and by {source} {wanted:?}; exact: {all_exact}"))
    }
}

fn without_exact(member: &Value) -> Value {
    let mut member = member.clone();
    member.as_object_mut().unwrap().remove("exact");
    member
}

/// What a history tells of a member.
pub fn told(member: &Value) -> Value {
    json!({
        "name": member["name"], "avatar_url": member["avatar_url"],
        "status": member["status"], "state": member["state"],
    })
}

/// Everything up to a time, that included.
fn fold(events: &[&Logged], at: i64) -> Seen {
    let mut seen = Seen::new();
    for event in events.iter().take_while(|event| event.at <= at) {
        match &event.member {
            Some(member) => seen.insert(event.user_id.clone(), told(member)),
            None => seen.remove(&event.user_id),
        };
    }
    seen
}

/// By user and day, hundredths of minutes.
fn attended(events: &[&Logged], from: i64, to: i64) -> BTreeMap<(String, i64), i64> {
    let mut since: BTreeMap<&str, i64> = BTreeMap::new();
    let mut stays = Vec::new();
    for event in events {
        match event.kind.as_str() {
            "joined" => drop(since.insert(&event.user_id, event.at)),
            "left" => {
                stays.push((event.user_id.as_str(), since.remove(event.user_id.as_str()).unwrap(), event.at));
            }
            _ => {}
        }
    }
    stays.extend(since.into_iter().map(|(user, at)| (user, at, to)));
    let mut sums: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for (user, begin, end) in stays {
        let (begin, end) = (begin.max(from), end.min(to));
        for day in begin / DAY..=end / DAY {
            let within = end.min((day + 1) * DAY) - begin.max(day * DAY);
            if within > 0 {
                *sums.entry((user.to_owned(), day)).or_default() += within;
            }
        }
    }
    sums.into_iter().map(|(row, time)| (row, (time * 100 + 30_000_000) / 60_000_000)).collect()
}

/// The peak, since when, and the most in each bucket of a third of a day.
type Occupied = (i64, i64, Vec<(i64, i64)>);

fn occupied(events: &[&Logged], from: i64, to: i64) -> Occupied {
    let mut count = i64::try_from(fold(events, from).len()).unwrap();
    let mut counts = vec![(from, count)];
    for event in events.iter().filter(|event| event.at > from && event.at < to && event.kind != "updated") {
        count += if event.kind == "joined" { 1 } else { -1 };
        counts.push((event.at, count));
    }
    let peak = counts.iter().map(|(_, count)| *count).max().unwrap();
    let peak_at = counts.iter().find(|(_, count)| *count == peak).unwrap().0;
    let starts = (0..).map(|n| from + n * DAY / 3).take_while(|start| *start < to);
    let most = |start: i64| {
        let before = counts.iter().rfind(|(at, _)| *at <= start).unwrap().1;
        let within = counts.iter().filter(|(at, _)| *at >= start && *at < start + DAY / 3);
        within.map(|(_, count)| *count).max().unwrap_or(before).max(before)
    };
    (peak, peak_at, starts.map(|start| (start, most(start))).collect())
}

async fn members_at(connection: &mut PgConnection, room: &str, at: i64) -> Seen {
    let members = format!(
        "select coalesce(json_object_agg(user_id, json_build_object('name', name, 'avatar_url', avatar_url, \
         'status', status, 'state', state, 'exact', exact)), '{{}}') from headcount.members_at($1, {})",
        AT.replace('$', "$2")
    );
    let asking = sqlx::query_scalar(sqlx::AssertSqlSafe(members)).bind(room).bind(at);
    let Json(members) = asking.fetch_one(connection).await.unwrap();
    members
}

async fn attendance(
    connection: &mut PgConnection,
    room: &str,
    from: i64,
    to: i64,
) -> BTreeMap<(String, i64), i64> {
    let attendance = format!(
        "select user_id, (day - date '1970-01-01')::bigint, (minutes * 100)::bigint \
         from headcount.attendance($1, {}, {})",
        AT.replace('$', "$2"),
        AT.replace('$', "$3")
    );
    let asking = sqlx::query_as(sqlx::AssertSqlSafe(attendance)).bind(room).bind(from).bind(to);
    let rows: Vec<(String, i64, i64)> = asking.fetch_all(connection).await.unwrap();
    rows.into_iter().map(|(user, day, minutes)| ((user, day), minutes)).collect()
}

async fn occupancy(connection: &mut PgConnection, room: &str, from: i64, to: i64) -> Occupied {
    let (from_at, to_at) = (AT.replace('$', "$2"), AT.replace('$', "$3"));
    let occupancy = format!(
        "select p.count, (extract(epoch from p.at) * 1000000)::bigint, (extract(epoch from b.at) * 1000000)::bigint, b.count \
         from headcount.peak_occupancy($1, {from_at}, {to_at}) p \
         cross join headcount.occupancy($1, {from_at}, {to_at}, '8 h') b order by 3"
    );
    let asking = sqlx::query_as(sqlx::AssertSqlSafe(occupancy)).bind(room).bind(from).bind(to);
    let rows: Vec<(i64, i64, i64, i64)> = asking.fetch_all(connection).await.unwrap();
    (rows[0].0, rows[0].1, rows.iter().map(|(_, _, at, count)| (*at, *count)).collect())
}
