//! Frames of streams.

use std::time::Duration;

use super::{choose, frame, frames, mutations};
use crate::recording::{Frame, FrameEvent, History, What};

const MOVED: Duration = Duration::from_secs(3);

/// The stream's next frame.
fn next(history: &History, n: usize) -> Option<usize> {
    let What::Frame(this) = &history.records[n].what else { return None };
    frames(history, |frame| frame.stream == this.stream).find(|next| *next > n)
}

fn at(history: &History, n: usize) -> &Frame {
    let What::Frame(frame) = &history.records[n].what else { unreachable!("it was chosen among frames") };
    frame
}

fn opened_on(history: &History, stream: u64) -> &str {
    let room = history.records.iter().find_map(|record| match &record.what {
        What::Opened { stream: opened, room, .. } if *opened == stream => Some(room.as_str()),
        _ => None,
    });
    room.expect("every stream was opened")
}

/// Whether the stream tells changes, not the whole list each time.
fn tells_changes(frame: &Frame) -> bool {
    matches!(frame.event, FrameEvent::Snapshot | FrameEvent::Diff)
}

fn users(frame: &Frame) -> impl Iterator<Item = &String> {
    frame.joined.iter().chain(&frame.updated).chain(&frame.left)
}

/// Whether the next frame cannot be read as both: it is a diff that does not name everybody whom this one names.
fn leaves_a_gap(history: &History, n: usize) -> bool {
    let Some(next) = next(history, n).map(|next| at(history, next)) else { return false };
    let (this, names_all) =
        (at(history, n), users(at(history, n)).all(|u| users(next).any(|other| other == u)));
    match (this.event, next.event) {
        (_, FrameEvent::Bye) => false,
        (FrameEvent::Snapshot, _) => true,
        (FrameEvent::Diff, FrameEvent::Diff) => !names_all,
        (FrameEvent::Diff, FrameEvent::Sync) => users(this).next().is_some(),
        _ => false,
    }
}

mutations! {
    a_frame_that_is_dropped: |history, one, _| {
        let n = choose(one, frames(history, tells_changes).filter(|n| leaves_a_gap(history, *n)))?;
        Some(format!("{:?}", history.records.remove(n)))
    };

    a_frame_that_is_doubled: |history, one, _| {
        let n = choose(one, frames(history, |frame| frame.event != FrameEvent::Sync))?;
        let record = history.records[n].clone();
        history.records.insert(n, record.clone());
        Some(format!("{record:?}"))
    };

    two_frames_that_are_swapped: |history, one, _| {
        let both = |n: &usize| next(history, *n).is_some_and(|next| at(history, next).is_change());
        let n = choose(one, frames(history, Frame::is_change).filter(both))?;
        let next = next(history, n).expect("it was chosen by having one");
        let (first, second) = (at(history, n).clone(), at(history, next).clone());
        history.records[n].what = What::Frame(second);
        history.records[next].what = What::Frame(first.clone());
        Some(format!("{first:?}"))
    };

    /// Before what it tells of was committed.
    a_frame_that_comes_too_early: |history, one, _| {
        let n = choose(one, frames(history, |frame| frame.event == FrameEvent::Diff))?;
        let mut record = history.records.remove(n);
        record.at = record.at.saturating_sub(MOVED);
        let before = history.records.partition_point(|other| other.at <= record.at);
        history.records.insert(before, record.clone());
        Some(format!("{record:?}"))
    };

    somebody_left_out_of_a_frame: |history, one, other| {
        let named = |frame: &Frame| users(frame).chain(&frame.members).next().is_some();
        let n = choose(one, frames(history, named))?;
        let frame = frame(history, n);
        let mut lists = [&mut frame.joined, &mut frame.updated, &mut frame.left, &mut frame.members];
        let list = lists.iter_mut().find(|list| !list.is_empty()).expect("it was chosen by naming somebody");
        list.remove(other.index(list.len()));
        Some(format!("{frame:?}"))
    };

    somebody_forged_into_a_frame: |history, one, other| {
        let n = choose(one, frames(history, Frame::is_change))?;
        let frame = frame(history, n);
        let lists = match frame.event {
            FrameEvent::Diff => vec![&mut frame.joined, &mut frame.updated, &mut frame.left],
            _ => vec![&mut frame.members],
        };
        let count = lists.len();
        lists.into_iter().nth(other.index(count)).unwrap().push("mallory".to_owned());
        Some(format!("{frame:?}"))
    };

    a_frame_from_the_future: |history, one, _| {
        let n = choose(one, frames(history, |frame| frame.cursor.is_some()))?;
        frame(history, n).cursor.as_mut().unwrap().version += 1000;
        Some(format!("{:?}", history.records[n]))
    };

    a_frame_at_an_older_version: |history, one, _| {
        let n = choose(one, frames(history, |frame| frame.event == FrameEvent::Diff))?;
        let version = &mut frame(history, n).cursor.as_mut().unwrap().version;
        *version = version.saturating_sub(40);
        Some(format!("{:?}", history.records[n]))
    };

    a_frame_of_another_epoch: |history, one, _| {
        let n = choose(one, frames(history, |frame| frame.event == FrameEvent::Diff))?;
        frame(history, n).cursor.as_mut().unwrap().epoch = "cc".to_owned();
        Some(format!("{:?}", history.records[n]))
    };

    a_snapshot_for_another_reason: |history, one, other| {
        let n = choose(one, frames(history, |frame| frame.event == FrameEvent::Snapshot))?;
        frame(history, n).reason = Some(["epoch", "too_old", "slow"][other.index(3)].to_owned());
        Some(format!("{:?}", history.records[n]))
    };

    a_stream_that_was_never_opened: |history, one, _| {
        let opened = |n: &usize| matches!(history.records[*n].what, What::Opened { .. });
        let n = choose(one, (0..history.records.len()).filter(opened))?;
        Some(format!("{:?}", history.records.remove(n)))
    };

    /// It is then expected to have gone on, if the room did. One that said bye has ended all the same.
    a_stream_that_was_never_closed: |history, one, _| {
        let closed = |n: &usize| match &history.records[*n].what {
            What::Closed { stream } => {
                let mut byes = frames(history, |frame| frame.stream == *stream && frame.event == FrameEvent::Bye);
                let told = frames(history, |frame| frame.stream == *stream && frame.cursor.is_some());
                let version = |n: usize| at(history, n).cursor.as_ref().map_or(0, |cursor| cursor.version);
                let room = opened_on(history, *stream);
                let heads = history.rosters.iter().filter(|roster| roster.room == room);
                let went_on = heads.map(|roster| roster.cursor.version).max() > told.last().map(version);
                byes.next().is_none() && went_on
            }
            _ => false,
        };
        let n = choose(one, (0..history.records.len()).filter(closed))?;
        Some(format!("{:?}", history.records.remove(n)))
    };
}
