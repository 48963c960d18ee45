//! The raw limit of fan-out: a loop over sockets that writes to each.

use std::io::Write;
use std::net::TcpStream;

use super::{FRAME, Peer, Publish};
use crate::limits;
use crate::process::SERVER_CORE;
use crate::watchers::Script;

struct Orders {
    address: std::net::SocketAddr,
    stream: Option<TcpStream>,
}

impl Publish for Orders {
    fn publish(&mut self, first: u64, count: u64) {
        // Not sooner, because the server takes no more watchers once it has a publisher.
        let stream = self.stream.get_or_insert_with(|| {
            let mut stream = TcpStream::connect(self.address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket takes this option");
            stream.write_all(b"order\n").expect("the server reads");
            stream
        });
        stream.write_all(format!("{first} {count} {FRAME}\n").as_bytes()).expect("the server reads");
    }

    fn settle(&mut self) {}
}

pub fn start() -> Peer {
    let (server, address) = limits::launch("raw", Some(SERVER_CORE));
    let script = Script { hello: b"watch\n".to_vec(), then: None, ready: b"open\n" };
    Peer {
        server,
        address,
        script,
        publisher: Box::new(Orders { address, stream: None }),
        _others: Vec::new(),
    }
}
