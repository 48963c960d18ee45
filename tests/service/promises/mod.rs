//! What is promised, P1 to P14 of the README: a file each, which begins with the promise.
//!
//! A promise that is best tried elsewhere too (the functions alone, random histories, faults) says where.

mod p01_nothing_acked_is_lost;
mod p02_read_your_writes;
mod p03_one_join_and_one_leave;
mod p04_contiguous_history;
mod p05_ordered_streams;
mod p06_resumable;
mod p07_no_false_leave;
mod p08_no_ghost;
mod p09_no_resurrection;
mod p10_bounded;
mod p11_degrade_not_die;
mod p12_calm_restarts;
mod p13_notifications_are_hints;
mod p14_own_things_only;
