//! Which address a request counts for, where limits are by address.
//!
//! A proxy of ours appends to `X-Forwarded-For` the address that it was called from. Everything to the left of that was
//! written by somebody else, so the list is read from the right, and only as far as our own proxies wrote it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Bits of an IPv6 address that name its network. A host has a whole network of this size to choose addresses from.
const NETWORK_BITS: u32 = 64;

/// Bits of an IPv6 address before an IPv4 address that is mapped into it.
const MAPPED_BITS: u8 = 96;

/// Networks of our own proxies.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether a proxy of ours has this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The address of the client. `peer` is the other end of the connection; `forwarded` are the lines of `X-Forwarded-For`, in order, which are
    /// one list. The first address from the right that is no proxy of ours is the client. At an entry that is no address the
    /// walk stops, because anybody may have written what is left of it, and the proxy that wrote that entry counts.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        let entries = forwarded.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let mut entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
        let mut nearest = peer.to_canonical();
        while self.contains(nearest) {
            match entries.next().map(read) {
                Some(Some(address)) => nearest = address,
                Some(None) | None => break,
            }
        }
        nearest
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    /// Networks or single addresses, separated by commas or white space.
    fn from_str(text: &str) -> Result<Self, String> {
        let pieces = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|piece| !piece.is_empty());
        pieces.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    let net = text.parse::<IpNet>().or_else(|_| single());
    net.map(canonical).map_err(|_| format!("{text} is no network such as 10.0.0.0/8, and no address"))
}

/// The network of IPv4 that a network of mapped addresses stands for.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let v4 =
        mapped.addr().to_ipv4_mapped().zip(bits).and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    v4.map_or(net, IpNet::V4)
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn read(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse::<IpAddr>().ok();
    alone
        .or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
        .map(|a| a.to_canonical())
}

/// What limits count an address as: IPv4 whole, also where it is mapped; IPv6 by its network.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network =
                address.to_bits() >> (Ipv6Addr::BITS - NETWORK_BITS) << (Ipv6Addr::BITS - NETWORK_BITS);
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PROXIES: &str = "10.0.0.0/8, 192.0.2.1 2001:db8:1::/48\n::ffff:172.16.0.0/108";

    fn client(peer: &str, lines: &[&str]) -> String {
        let proxies: TrustedProxies = PROXIES.parse().unwrap();
        proxies.client(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes())).to_string()
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_proxy_of_ours() {
        for (peer, lines, expected) in [
            // A peer that is not a proxy of ours is not believed.
            ("203.0.113.7", &["9.9.9.9"][..], "203.0.113.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7, x, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7, 203.0.113.7, 10.2.3.4,10.0.0.9 , 192.0.2.1"], "203.0.113.7"),
            // All of them are ours: the farthest.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What cannot be read was written by the proxy to its right.
            ("10.0.0.1", &["203.0.113.7, x"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.7, 10.0.0.256, 10.0.0.2"], "10.0.0.2"),
            // Lines are one list.
            ("10.0.0.1", &["9.9.9.7", "203.0.113.7, 10.0.0.3", "10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["9.9.9.7", "x", "203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7", ", ,", ""], "203.0.113.7"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(
            TrustedProxies::default()
                .client("10.0.0.1".parse().unwrap(), [&b"9.9.9.9"[..]].into_iter())
                .to_string(),
            "10.0.0.1"
        );
        let binary = [&b"9.9.9.9, \xff\xfe"[..]];
        let proxies: TrustedProxies = PROXIES.parse().unwrap();
        assert_eq!(proxies.client("10.0.0.1".parse().unwrap(), binary.into_iter()).to_string(), "10.0.0.1");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        for (written, expected) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            // Of our proxies, so what is to the left counts.
            ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
            ("203.0.113.7, 10.0.0.2:55", "203.0.113.7"),
            ("203.0.113.7, [2001:db8:1:2::3]:9", "203.0.113.7"),
            ("203.0.113.7, 172.31.255.255", "203.0.113.7"),
            ("203.0.113.7, 172.32.0.0", "172.32.0.0"),
            // No addresses.
            ("203.0.113.7:", "10.0.0.1"),
            ("203.0.113.7:99999", "10.0.0.1"),
            ("2001:db8::7]", "10.0.0.1"),
            ("203.0.113.7 10.0.0.2", "10.0.0.1"),
            ("_hidden", "10.0.0.1"),
        ] {
            for peer in ["10.0.0.1", "::ffff:10.0.0.1"] {
                assert_eq!(client(peer, &[written]), expected, "{written}");
            }
        }
    }

    #[test]
    fn ipv6_counts_by_its_network_and_ipv4_whole() {
        for (address, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::", "2001:db8:1:3::"),
            ("::1", "::"),
        ] {
            assert_eq!(counted(address.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn networks_are_a_list_and_what_is_none_is_named() {
        assert!("".parse::<TrustedProxies>().unwrap().0.is_empty());
        assert_eq!(PROXIES.parse::<TrustedProxies>().unwrap().0.len(), 4);
        assert!(
            "10.0.0.0/8, nginx".parse::<TrustedProxies>().unwrap_err().starts_with("nginx is no network")
        );
        let everybody: TrustedProxies = "0.0.0.0/0".parse().unwrap();
        assert!(everybody.contains(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()));
    }
}
