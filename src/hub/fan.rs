//! A worker thread's end of the hub: a ring buffer of recent frames per room, and the watchers that read it.
//!
//! Everything here stays on its thread, so waking a watcher takes no lock. Bounded: a ring holds
//! [`RING_FRAMES`] frames and [`RING_BYTES`] bytes. A slow watcher whose next frame was evicted is
//! disconnected, and resumes by its cursor.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::frame::{Frame, Mode, Wire};
use super::gone::Gone;
use super::handle::Hub;
use super::messages::{FeedRequest, Opening, Unreadable, WorkerId, WorkerMessage};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;
use crate::measure::meters;

/// Frames kept per room: over a second at a small room's highest frame rate, a minute at a large room's.
const RING_FRAMES: usize = 64;

/// Bytes kept per room, at most; the newest frame is kept whatever its size.
const RING_BYTES: usize = 256 * 1024;

/// The tick of this thread's timer wheel: one timer for all its streams.
const TICK: Duration = Duration::from_secs(1);

/// Slots of the timer wheel, one a tick: a stream with nothing else to do is woken once a round.
pub const ROUND: u64 = 15;

/// Messages queued for a worker, at most. A full queue is back-pressure: the feed waits, and coalesces more
/// versions into its next frame.
const INBOX_MAX: usize = 1024;

#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn add(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    fn set(&mut self, slot: usize, waker: &Waker) {
        match &mut self.slots[slot] {
            Some(kept) => kept.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    fn wake(&self) {
        self.slots.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

#[derive(Default)]
struct Ring {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// The number of the newest frame.
    newest: u64,
    /// Whether the room cannot be read.
    stale: bool,
    watchers: usize,
    wakers: Wakers,
}

impl Ring {
    fn push(&mut self, number: u64, frame: Arc<Frame>) {
        if number != self.newest + 1 {
            self.frames.clear(); // nobody here watched for a while: older watchers are behind
            self.bytes = 0;
        }
        self.newest = number;
        self.bytes += frame.size();
        self.frames.push_back(frame);
        while self.frames.len() > 1 && (self.frames.len() > RING_FRAMES || self.bytes > RING_BYTES) {
            self.bytes -= self.frames.pop_front().map_or(0, |frame| frame.size());
        }
    }

    fn after(&self, number: u64) -> Next {
        if number >= self.newest {
            return Next::Nothing;
        }
        let back = usize::try_from(self.newest - number).unwrap_or(usize::MAX);
        match self.frames.len().checked_sub(back) {
            Some(index) => Next::Frame(self.frames[index].clone()),
            None => Next::Behind,
        }
    }
}

/// What a watcher finds in its ring.
#[derive(Debug)]
pub enum Next {
    /// The next frame.
    Frame(Arc<Frame>),
    /// The watcher is up to date. It will be woken.
    Nothing,
    /// The next frame was evicted: the watcher is too slow.
    Behind,
}

/// A worker thread's rooms.
pub struct Fan {
    hub: Hub,
    worker: WorkerId,
    rings: RefCell<HashMap<RoomId, Rc<RefCell<Ring>>>>,
    /// Watchers gone since the last tick. The next tick begins to report them to the feed.
    gone: RefCell<Gone>,
    tick: Cell<u64>,
    /// Frames and bytes handed to sockets since the last tick. Batched here, so that a frame touches no
    /// shared counter.
    sent: Cell<(u64, u64)>,
    rounds: RefCell<Vec<Wakers>>,
    draining: Cell<bool>,
}

impl Fan {
    /// Starts the fan of the current thread, which must run a `LocalSet`.
    pub fn start(hub: Hub) -> Rc<Self> {
        let worker = hub.shared.workers.fetch_add(1, Ordering::Relaxed);
        let fan = Rc::new(Self {
            hub,
            worker,
            rings: RefCell::default(),
            gone: RefCell::default(),
            tick: Cell::new(0),
            sent: Cell::default(),
            rounds: RefCell::new((0..ROUND).map(|_| Wakers::default()).collect()),
            draining: Cell::new(false),
        });
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        tokio::task::spawn_local(run(fan.clone(), inbox, messages));
        fan
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Seconds since this fan started.
    pub fn tick(&self) -> u64 {
        self.tick.get()
    }

    /// Counts a frame of `bytes` bytes that was handed to a socket.
    pub fn sent(&self, bytes: usize) {
        let (frames, before) = self.sent.get();
        self.sent.set((frames + 1, before + bytes as u64));
    }

    /// Whether this replica drains, so that streams must end now.
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Starts watching. Registers before the feed reads, so that no event is lost in a race between the two.
    pub async fn watch(
        self: &Rc<Self>,
        room: RoomId,
        mode: Mode,
        last: Option<Cursor>,
    ) -> Result<(Watcher, Option<Wire>), Unreadable> {
        let ring = self.rings.borrow_mut().entry(room.clone()).or_default().clone();
        let slot = {
            let mut ring = ring.borrow_mut();
            ring.watchers += 1;
            ring.wakers.add()
        };
        let (reply, answer) = oneshot::channel();
        let request = FeedRequest::Watch { worker: self.worker, room: room.clone(), mode, last, reply };
        let mut watch = Watcher { fan: self.clone(), room, mode, ring, slot, seen: 0, cursor: None };
        self.hub.requests.send(request).await.map_err(|_| Unreadable)?;
        let Opening { first, cursor, number } = answer.await.map_err(|_| Unreadable)?;
        watch.seen = number;
        watch.cursor = Some(cursor);
        Ok((watch, first))
    }

    /// Takes a slot of the timer wheel.
    pub fn join_round(self: &Rc<Self>) -> WakeSlot {
        self.hub.shared.watchers.fetch_add(1, Ordering::Relaxed);
        meters().streams.increment(1);
        let index = usize::try_from(self.tick.get() % ROUND).unwrap_or(0);
        let slot = self.rounds.borrow_mut()[index].add();
        WakeSlot { fan: self.clone(), index, slot }
    }

    fn take(&self, message: WorkerMessage, touched: &mut Vec<Rc<RefCell<Ring>>>) {
        match message {
            WorkerMessage::Frame { room, number, frame } => {
                if let Some(ring) = self.rings.borrow().get(&room) {
                    ring.borrow_mut().push(number, frame);
                    touched.push(ring.clone());
                }
            }
            WorkerMessage::Stale { room, stale } => {
                if let Some(ring) = self.rings.borrow().get(&room) {
                    ring.borrow_mut().stale = stale;
                    touched.push(ring.clone());
                }
            }
            WorkerMessage::Drain => {
                self.draining.set(true);
                self.rounds.borrow().iter().for_each(Wakers::wake);
            }
            WorkerMessage::Rouse => self.rounds.borrow().iter().for_each(Wakers::wake),
        }
    }

    fn next_tick(&self) {
        self.hub.shared.pulse.tick(self.worker, Instant::now());
        self.tick.set(self.tick.get() + 1);
        let index = usize::try_from(self.tick.get() % ROUND).unwrap_or(0);
        self.rounds.borrow()[index].wake();
        let (frames, bytes) = self.sent.take();
        meters().frames_sent.increment(frames);
        meters().stream_bytes.increment(bytes);
    }

    /// Reports watchers that are gone, of so many rooms as one message has. Returns whether there are more.
    async fn report_gone(&self) -> bool {
        let rooms = self.gone.borrow_mut().take();
        if rooms.is_empty() {
            return false;
        }
        for (room, _) in &rooms {
            let mut rings = self.rings.borrow_mut();
            if rings.get(room).is_some_and(|ring| ring.borrow().watchers == 0) {
                rings.remove(room);
            }
        }
        let request = FeedRequest::Unwatch { worker: self.worker, rooms };
        let _ = self.hub.requests.send(request).await; // the feed has ended: nothing to report
        !self.gone.borrow().is_empty()
    }
}

/// Removes the worker from the health check when its thread ends.
struct Ending(Rc<Fan>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.hub.shared.pulse.end(self.0.worker);
    }
}

async fn run(fan: Rc<Fan>, inbox: mpsc::Sender<WorkerMessage>, mut messages: mpsc::Receiver<WorkerMessage>) {
    let _ = fan.hub.requests.send(FeedRequest::Attach { worker: fan.worker, inbox }).await; // no feed, no messages
    let _ending = Ending(fan.clone());
    let mut ticks = tokio::time::interval(TICK);
    let mut touched = Vec::new();
    let mut reporting = false;
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { return };
                // Drain the queue before waking watchers: a burst is coalesced into one wake-up.
                fan.take(message, &mut touched);
                while let Ok(message) = messages.try_recv() {
                    fan.take(message, &mut touched);
                }
                touched.drain(..).for_each(|ring| ring.borrow().wakers.wake());
            }
            _ = ticks.tick() => {
                fan.next_tick();
                reporting = true;
            }
            () = tokio::task::yield_now(), if reporting => reporting = fan.report_gone().await,
        }
    }
}

/// One room of one stream: a position in the room's ring.
pub struct Watcher {
    fan: Rc<Fan>,
    room: RoomId,
    mode: Mode,
    ring: Rc<RefCell<Ring>>,
    slot: usize,
    seen: u64,
    cursor: Option<Cursor>,
}

impl Watcher {
    /// The next frame. If there is none yet, registers a wake-up.
    pub fn next(&mut self, context: &Context<'_>) -> Next {
        let mut ring = self.ring.borrow_mut();
        let next = ring.after(self.seen);
        match &next {
            Next::Frame(frame) => {
                self.seen += 1;
                self.cursor = Some(frame.cursor.clone());
            }
            Next::Nothing => ring.wakers.set(self.slot, context.waker()),
            Next::Behind => {}
        }
        next
    }

    /// Whether its room cannot be read, so that what was sent of it may be out of date.
    pub fn stale(&self) -> bool {
        self.ring.borrow().stale
    }

    /// The watcher's mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The position after the last frame it took.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut ring = self.ring.borrow_mut();
        ring.watchers -= 1;
        ring.wakers.remove(self.slot);
        self.fan.gone.borrow_mut().add(&self.room);
    }
}

/// A stream's slot of the timer wheel.
pub struct WakeSlot {
    fan: Rc<Fan>,
    index: usize,
    slot: usize,
}

impl WakeSlot {
    /// Registers the waker for the slot's next turn.
    pub fn wait(&self, context: &Context<'_>) {
        self.fan.rounds.borrow_mut()[self.index].set(self.slot, context.waker());
    }
}

impl Drop for WakeSlot {
    fn drop(&mut self) {
        self.fan.rounds.borrow_mut()[self.index].remove(self.slot);
        self.fan.hub.shared.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
