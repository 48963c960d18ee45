//! Frames of streams.

use std::time::Duration;

use super::{choose, frame, frames, mutations};
use crate::recording::{Frame, FrameEvent, Recording, What};

const MOVED: Duration = Duration::from_secs(3);

/// The stream's next frame.
fn next(recording: &Recording, n: usize) -> Option<usize> {
    let What::Frame(this) = &recording.records[n].what else { return None };
    frames(recording, |frame| frame.stream == this.stream).find(|next| *next > n)
}

fn at(recording: &Recording, n: usize) -> &Frame {
    let What::Frame(frame) = &recording.records[n].what else { unreachable!("it was chosen among frames") };
    frame
}

fn opened_on(recording: &Recording, stream: u64) -> &str {
    let room = recording.records.iter().find_map(|record| match &record.what {
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
fn leaves_a_gap(recording: &Recording, n: usize) -> bool {
    let Some(next) = next(recording, n).map(|next| at(recording, next)) else { return false };
    let (this, names_all) =
        (at(recording, n), users(at(recording, n)).all(|u| users(next).any(|other| other == u)));
    match (this.event, next.event) {
        (_, FrameEvent::Bye) => false,
        (FrameEvent::Snapshot, _) => true,
        (FrameEvent::Diff, FrameEvent::Diff) => !names_all,
        (FrameEvent::Diff, FrameEvent::Sync) => users(this).next().is_some(),
        _ => false,
    }
}

mutations! {
    a_frame_that_is_dropped: |recording, one, _| {
        let n = choose(one, frames(recording, tells_changes).filter(|n| leaves_a_gap(recording, *n)))?;
        Some(format!("{:?}", recording.records.remove(n)))
    };

    a_frame_that_is_doubled: |recording, one, _| {
        let n = choose(one, frames(recording, |frame| frame.event != FrameEvent::Sync))?;
        let record = recording.records[n].clone();
        recording.records.insert(n, record.clone());
        Some(format!("{record:?}"))
    };

    two_frames_that_are_swapped: |recording, one, _| {
        let both = |n: &usize| next(recording, *n).is_some_and(|next| at(recording, next).is_change());
        let n = choose(one, frames(recording, Frame::is_change).filter(both))?;
        let next = next(recording, n).expect("it was chosen by having one");
        let (first, second) = (at(recording, n).clone(), at(recording, next).clone());
        recording.records[n].what = What::Frame(second);
        recording.records[next].what = What::Frame(first.clone());
        Some(format!("{first:?}"))
    };

    /// Before what it tells of was committed.
    a_frame_that_comes_too_early: |recording, one, _| {
        let n = choose(one, frames(recording, |frame| frame.event == FrameEvent::Diff))?;
        let mut record = recording.records.remove(n);
        record.at = record.at.saturating_sub(MOVED);
        let before = recording.records.partition_point(|other| other.at <= record.at);
        recording.records.insert(before, record.clone());
        Some(format!("{record:?}"))
    };

    somebody_left_out_of_a_frame: |recording, one, other| {
        let named = |frame: &Frame| users(frame).chain(&frame.members).next().is_some();
        let n = choose(one, frames(recording, named))?;
        let frame = frame(recording, n);
        let mut lists = [&mut frame.joined, &mut frame.updated, &mut frame.left, &mut frame.members];
        let list = lists.iter_mut().find(|list| !list.is_empty()).expect("it was chosen by naming somebody");
        list.remove(other.index(list.len()));
        Some(format!("{frame:?}"))
    };

    somebody_forged_into_a_frame: |recording, one, other| {
        let n = choose(one, frames(recording, Frame::is_change))?;
        let frame = frame(recording, n);
        let lists = match frame.event {
            FrameEvent::Diff => vec![&mut frame.joined, &mut frame.updated, &mut frame.left],
            _ => vec![&mut frame.members],
        };
        let count = lists.len();
        lists.into_iter().nth(other.index(count)).unwrap().push("mallory".to_owned());
        Some(format!("{frame:?}"))
    };

    a_frame_from_the_future: |recording, one, _| {
        let n = choose(one, frames(recording, |frame| frame.cursor.is_some()))?;
        frame(recording, n).cursor.as_mut().unwrap().version += 1000;
        Some(format!("{:?}", recording.records[n]))
    };

    a_frame_at_an_older_version: |recording, one, _| {
        let n = choose(one, frames(recording, |frame| frame.event == FrameEvent::Diff))?;
        let version = &mut frame(recording, n).cursor.as_mut().unwrap().version;
        *version = version.saturating_sub(40);
        Some(format!("{:?}", recording.records[n]))
    };

    a_frame_of_another_epoch: |recording, one, _| {
        let n = choose(one, frames(recording, |frame| frame.event == FrameEvent::Diff))?;
        frame(recording, n).cursor.as_mut().unwrap().epoch = "cc".to_owned();
        Some(format!("{:?}", recording.records[n]))
    };

    a_snapshot_for_another_reason: |recording, one, other| {
        let n = choose(one, frames(recording, |frame| frame.event == FrameEvent::Snapshot))?;
        frame(recording, n).reason = Some(["epoch", "too_old", "slow"][other.index(3)].to_owned());
        Some(format!("{:?}", recording.records[n]))
    };

    a_stream_that_was_never_opened: |recording, one, _| {
        let opened = |n: &usize| matches!(recording.records[*n].what, What::Opened { .. });
        let n = choose(one, (0..recording.records.len()).filter(opened))?;
        Some(format!("{:?}", recording.records.remove(n)))
    };

    /// It is then expected to have gone on, if the room did. One that said bye has ended all the same.
    a_stream_that_was_never_closed: |recording, one, _| {
        let closed = |n: &usize| match &recording.records[*n].what {
            What::Closed { stream } => {
                let mut byes = frames(recording, |frame| frame.stream == *stream && frame.event == FrameEvent::Bye);
                let told = frames(recording, |frame| frame.stream == *stream && frame.cursor.is_some());
                let version = |n: usize| at(recording, n).cursor.as_ref().map_or(0, |cursor| cursor.version);
                let room = opened_on(recording, *stream);
                let heads = recording.rosters.iter().filter(|roster| roster.room == room);
                let went_on = heads.map(|roster| roster.cursor.version).max() > told.last().map(version);
                byes.next().is_none() && went_on
            }
            _ => false,
        };
        let n = choose(one, (0..recording.records.len()).filter(closed))?;
        Some(format!("{:?}", recording.records.remove(n)))
    };
}
