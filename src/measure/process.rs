//! Figures of the kernel about this process. Reading them takes some milliseconds with many open connections, so it
//! is not done during a scrape.

use super::{meters, number};

/// Size of a page in bytes, the unit of `statm`.
fn page_size() -> f64 {
    number(rustix::param::page_size())
}

/// Reads the figures into their gauges. A figure that cannot be read keeps its last value.
pub fn read() {
    let meters = meters();
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
    if let Some(resident) = resident {
        meters.memory.set(resident * page_size());
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        meters.descriptors.set(number(open.count()));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a limit of descriptors is far below 2^52, or there is none"
    )]
    meters.descriptors_max.set(limit.current.map_or(f64::INFINITY, |max| max as f64));
}
