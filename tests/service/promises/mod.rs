//! The promises P1 to P14 of the README, a file each.

mod p08_no_ghost;
