//! Formats a stream for people: a line per change. It caches each room's members, to say what changed of a
//! member.

use std::collections::BTreeMap;

use serde::Deserialize;
use time::OffsetDateTime;

use crate::cli::format::{clock, shown};
use crate::domain::event::{Departure, Reason};
use crate::domain::member::Member;

/// Members that a line about a whole room names, at most: nobody reads a longer line.
const NAMED_MAX: usize = 20;

/// Any frame of a room.
#[derive(Deserialize)]
struct RoomFrame {
    room: String,
    count: usize,
    #[serde(default)]
    members: Vec<Member>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    joined: Vec<Member>,
    #[serde(default)]
    updated: Vec<Member>,
    #[serde(default)]
    left: Vec<Departure>,
}

/// Formats frames as lines.
pub struct Lines {
    /// Whether a line must say which room it is about.
    many: bool,
    rooms: BTreeMap<String, BTreeMap<String, Member>>,
}

impl Lines {
    /// Of one room, or of many.
    pub fn new(many: bool) -> Self {
        Self { many, rooms: BTreeMap::new() }
    }

    /// The lines of a frame.
    pub fn of(&mut self, event: &str, data: &str) -> Result<Vec<String>, serde_json::Error> {
        let frame: RoomFrame = serde_json::from_str(data)?;
        let mut begin = clock(OffsetDateTime::now_utc());
        if self.many {
            begin = format!("{begin} {}", frame.room);
        }
        let lines = match event {
            "snapshot" | "presence" => vec![self.whole(frame)],
            "diff" => self.changes(frame),
            _ => vec![format!("= {} here", frame.count)],
        };
        Ok(lines.into_iter().map(|line| format!("{begin} {line}")).collect())
    }

    fn whole(&mut self, frame: RoomFrame) -> String {
        let named: Vec<String> = frame.members.iter().take(NAMED_MAX).map(called).collect();
        let more = frame.count.saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let anew = match frame.reason.as_deref() {
            None | Some("initial") => "",
            Some("epoch") => " (all anew: the database is another, or was restored)",
            Some("too_much") => " (all anew: too much changed at once)",
            Some("too_old") => " (all anew: it was too long ago)",
            Some(_) => " (all anew: some was missed)",
        };
        let colon = if named.is_empty() { "" } else { ": " };
        let line = format!("= {} here{anew}{colon}{}{more}", frame.count, named.join(", "));
        let members = frame.members.into_iter().map(|member| (member.id.to_string(), member));
        self.rooms.insert(frame.room, members.collect());
        line
    }

    fn changes(&mut self, frame: RoomFrame) -> Vec<String> {
        let roster = self.rooms.entry(frame.room).or_default();
        let mut lines = Vec::new();
        for member in frame.joined {
            lines.push(format!("+ {}", called(&member)));
            roster.insert(member.id.to_string(), member);
        }
        for member in frame.updated {
            let before = roster.get(member.id.as_str());
            lines.push(format!("~ {} {}", member.id, changed(before, &member)));
            roster.insert(member.id.to_string(), member);
        }
        for Departure { id, reason } in frame.left {
            lines.push(format!("- {id} {}", why(reason)));
            roster.remove(id.as_str());
        }
        lines
    }
}

/// `ann Ann`, and their status when it is not the usual one.
fn called(member: &Member) -> String {
    let status = shown(member);
    let status = if status == "online" { String::new() } else { format!(" ({status})") };
    format!("{} {}{status}", member.id, member.name)
}

fn changed(before: Option<&Member>, member: &Member) -> String {
    let differs = |what: fn(&Member) -> String| before.is_none_or(|before| what(before) != what(member));
    let mut parts = Vec::new();
    if differs(|member| member.name.to_string()) {
        parts.push(format!("is called {}", member.name));
    }
    if differs(shown) {
        parts.push(format!("is {}", shown(member)));
    }
    if differs(|member| member.state.get().to_owned()) {
        parts.push(member.state.get().to_owned());
    }
    if parts.is_empty() { "updated".to_owned() } else { parts.join(", ") }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Left => "left",
        Reason::Expired => "expired",
        Reason::Kicked => "kicked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, name: &str, status: &str, state: &str) -> String {
        format!(
            r#"{{"id":"{id}","name":"{name}","avatar_url":null,"status":"{status}","state":{state},"sessions":1,"joined_at":"2026-01-01T00:00:00.000Z"}}"#
        )
    }

    /// Without the time that each begins with.
    fn lines(lines: &mut Lines, event: &str, fields: &str) -> Vec<String> {
        let lines = lines.of(event, &format!(r#"{{"room":"lobby","cursor":"1.1",{fields}}}"#)).unwrap();
        lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_says_what_changed() {
        let (ann, idle) =
            (member("ann", "Ann", "online", "{}"), member("ann", "Ann", "idle", r#"{"typing":true}"#));
        let mut one = Lines::new(false);
        let opening = format!(r#""count":1,"members":[{ann}],"reason":"initial""#);
        assert_eq!(lines(&mut one, "snapshot", &opening), ["= 1 here: ann Ann"]);
        let bob = member("bob", "Bob", "dnd", "{}");
        let diff = format!(r#""count":2,"joined":[{bob}],"updated":[{idle}],"left":[]"#);
        assert_eq!(lines(&mut one, "diff", &diff), ["+ bob Bob (dnd)", r#"~ ann is idle, {"typing":true}"#]);
        let diff = r#""count":1,"joined":[],"updated":[],"left":[{"id":"bob","reason":"expired"}]"#;
        assert_eq!(lines(&mut one, "diff", diff), ["- bob expired"]);
        assert_eq!(lines(&mut one, "count", r#""count":7"#), ["= 7 here"]);
    }

    #[test]
    fn a_line_about_a_whole_room_says_why_and_names_not_too_many() {
        let members: Vec<String> = (0..30).map(|n| member(&format!("u{n}"), "U", "online", "{}")).collect();
        let fields = format!(r#""count":1200,"reason":"too_old","members":[{}]"#, members.join(","));
        let line = lines(&mut Lines::new(true), "snapshot", &fields).remove(0);
        assert!(line.starts_with("lobby = 1200 here (all anew: it was too long ago): u0 U, u1 U"), "{line}");
        assert!(line.ends_with("u19 U and 1180 more"), "{line}");
    }
}
