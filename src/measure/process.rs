//! What the kernel knows of this process. Looking at it takes some milliseconds with many connections open: not on a
//! scrape.

use super::{meters, number};

/// Bytes in a page, as `statm` counts.
fn page_size() -> f64 {
    number(rustix::param::page_size())
}

/// Reads it. What cannot be read stays as it was.
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
