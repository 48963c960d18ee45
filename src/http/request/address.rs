//! The address that a request or a connection counts for.
//!
//! Behind proxies of ours the peer is a proxy, and each proxy appends the address of its own peer to `X-Forwarded-For`.
//! So the header is read from the right, and only as far as trusted proxies have written it: what a client put into it
//! before is never believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

/// Bits of an IPv6 address that count. A host usually has a /64 of its own, and so 2^64 addresses.
const IPV6_PREFIX: u32 = 64;

/// Networks of our own proxies.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// From the settings. A network of IPv4-mapped addresses is one of IPv4 addresses.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.iter().map(|network| canonical(*network)).collect())
    }

    /// Whether the address is that of a proxy of ours.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address: the peer, or, as long as that is a proxy of ours, the address that this proxy appended to
    /// the header. An entry that is not an address ends the walk, and the proxy that wrote it is counted.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut entries = forwarded.flat_map(|line| line.split(',')).rev();
        let mut client = peer;
        while self.trust(client) {
            match entries.next().and_then(parse) {
                Some(address) => client = address,
                None => break,
            }
        }
        counted(client)
    }
}

/// What limits count of an address: an IPv4 address, also when it is mapped into IPv6; of IPv6 the network of a host.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> IPV6_PREFIX << IPV6_PREFIX))
        }
        address => address,
    }
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

/// Parses an entry as proxies write it: an address, in brackets or not, with a port or not.
fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, header: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "::ffff:192.0.2.0/120", "2001:db8:1::/48"].map(|n| n.parse().unwrap());
        Proxies::new(&trusted).client(peer.parse().unwrap(), header.iter().copied()).to_string()
    }

    #[test]
    fn the_header_is_read_from_the_right_as_far_as_our_proxies_wrote_it() {
        for (peer, header, expected) in [
            ("198.51.100.1", &["203.0.113.7"][..], "198.51.100.1"), // the peer is not a proxy of ours
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["9.9.9.7, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7, x, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7, x"], "10.0.0.1"), // the proxy wrote no address: the proxy is counted
            ("10.0.0.1", &["9.9.9.7, x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["9.9.9.7, 203.0.113.7, 10.0.0.3, 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["9.9.9.7", "203.0.113.7", " 10.0.0.2 "], "203.0.113.7"), // one list in three lines
            ("10.0.0.1", &["9.9.9.7", ""], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, header), expected, "{peer} {header:?}");
        }
    }

    #[test]
    fn addresses_are_understood_as_proxies_write_them() {
        for (entry, expected) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("[2001:db8::1:2:3:4]", "2001:db8::"),
            ("[2001:db8::1:2:3:4]:443", "2001:db8::"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
            ("2001:db8:0:1::5", "2001:db8:0:1::"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            ("203.0.113.7 ", "203.0.113.7"),
            ("unknown", "10.0.0.1"),
            ("203.0.113.007", "10.0.0.1"),
            ("203.0.113.7:99999", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[entry]), expected, "{entry}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_is_mapped_into_ipv6() {
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("192.0.2.9", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("::ffff:198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client("2001:db8:1::9", &["::ffff:10.1.1.1", "9.9.9.9"]), "9.9.9.9");
    }
}
