//! A picture of the summary: bars side by side, as an SVG that needs no other program.

use std::fmt::Write;

use crate::report::{Report, short};

const WIDTH: f64 = 860.0;
const LABEL: f64 = 250.0;
const BAR: f64 = 18.0;
const GAP: f64 = 7.0;

/// A group of bars that share a scale.
struct Panel {
    title: &'static str,
    bars: Vec<(&'static str, &'static str)>,
}

fn panels() -> Vec<Panel> {
    let panel = |title, bars: &[(&'static str, &'static str)]| Panel { title, bars: bars.to_vec() };
    vec![
        panel(
            "Deliveries a second to 1,000 watchers, bursts of 64 messages, one server core",
            &[
                ("headcount", "fanout_headcount_1000_watchers_burst_deliveries_per_s"),
                ("nchan", "fanout_nchan_1000_watchers_burst_deliveries_per_s"),
                ("Socket.IO", "fanout_socketio_1000_watchers_burst_deliveries_per_s"),
                ("Action Cable", "fanout_actioncable_1000_watchers_burst_deliveries_per_s"),
            ],
        ),
        panel(
            "Milliseconds from publishing to the last of 10,000 watchers (less is better)",
            &[
                ("headcount", "fanout_headcount_10000_watchers_last_p50_ms"),
                ("raw sockets", "fanout_raw_10000_watchers_last_p50_ms"),
                ("nchan", "fanout_nchan_10000_watchers_last_p50_ms"),
                ("Socket.IO", "fanout_socketio_10000_watchers_last_p50_ms"),
            ],
        ),
        panel(
            "KiB of memory per idle watcher, 10,000 of them (less is better)",
            &[
                ("headcount", "memory_headcount_10000_watchers_idle_kib"),
                ("nchan", "memory_nchan_10000_watchers_idle_kib"),
                ("Socket.IO", "memory_socketio_10000_watchers_idle_kib"),
                ("Action Cable", "memory_actioncable_10000_watchers_idle_kib"),
            ],
        ),
        panel(
            "Heartbeats a second, answered after their commit",
            &[
                ("headcount", "heartbeats_headcount_per_s"),
                ("actix, doing nothing, one core", "heartbeats_trivial_handler_per_s"),
                ("Action Cable, 100 members", "heartbeats_actioncable_100_members_per_s"),
                ("Action Cable, 1,000 members", "heartbeats_actioncable_1000_members_per_s"),
            ],
        ),
        panel(
            "Joins a second over 1,000 rooms, answered after their commit",
            &[
                ("headcount", "joins_1000_rooms_256_callers_per_s"),
                ("a transaction each, notifying", "joins_single_transactions_with_notify_per_s"),
            ],
        ),
    ]
}

/// The picture; none when there is nothing to show yet.
pub fn svg(report: &Report) -> Option<String> {
    let (mut body, mut y) = (String::new(), 16.0);
    for Panel { title, bars } in panels() {
        let known: Vec<(&str, f64)> = bars
            .iter()
            .map(|(label, name)| (*label, report.get(name)))
            .filter(|(_, v)| v.is_finite())
            .collect();
        if known.len() < 2 {
            continue;
        }
        let greatest = known.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let _ = writeln!(body, r#"<text x="16" y="{:.0}" class="title">{title}</text>"#, y + 14.0);
        y += 26.0;
        for (label, value) in known {
            let width = ((WIDTH - LABEL - 90.0) * value / greatest).max(1.0);
            let ours = if label == "headcount" { "ours" } else { "other" };
            let _ = writeln!(
                body,
                r#"<text x="{:.0}" y="{:.0}" class="label">{label}</text><rect x="{LABEL}" y="{y:.0}" width="{width:.1}" height="{BAR}" rx="2" class="{ours}"/><text x="{:.1}" y="{:.0}" class="value">{}</text>"#,
                LABEL - 8.0,
                y + 13.0,
                LABEL + width + 6.0,
                y + 13.0,
                short(value)
            );
            y += BAR + GAP;
        }
        y += 16.0;
    }
    (!body.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" width=\"{WIDTH}\" height=\"{y:.0}\">\n\
             <style>text{{font:13px system-ui,sans-serif;fill:#24292f}}.title{{font-weight:600}}.label{{text-anchor:end}}\
             .ours{{fill:#2f6fde}}.other{{fill:#b6bec9}}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    })
}
